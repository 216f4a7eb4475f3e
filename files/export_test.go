package files

// NameDrafts has drafts have names, as on file systems without O_TMPFILE.
func (r *Root) NameDrafts() { r.noTmpfile = true }

// SetCalm sets what a watch does between two looks at the kernel's events.
func (r *Root) SetCalm(calm func()) { r.calm = calm }
