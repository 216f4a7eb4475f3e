package files

// SetCalm sets what a watch does between two looks at the kernel's events.
func (r *Root) SetCalm(calm func()) { r.calm = calm }
