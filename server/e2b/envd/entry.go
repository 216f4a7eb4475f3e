package envd

import (
	"os"
	"strconv"
	"time"

	"github.com/k2sandbox/k2sandbox/files"
)

// metadataPrefix is how extended attributes are named that clients know as metadata.
const metadataPrefix = "user.e2b."

// entryInfo is filesystem.EntryInfo. Of a link, type and mode are those of what it leads to, if
// that is there.
type entryInfo struct {
	Name          string            `json:"name"`
	Type          string            `json:"type"`
	Path          string            `json:"path"`
	Size          int64             `json:"size,string"`
	Mode          uint32            `json:"mode"`
	Permissions   string            `json:"permissions"`
	Owner         string            `json:"owner"`
	Group         string            `json:"group"`
	ModifiedTime  string            `json:"modifiedTime"`
	SymlinkTarget *string           `json:"symlinkTarget,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	IsSymlink     bool              `json:"isSymlink,omitempty"`
}

// entryTypes are filesystem.FileType.
var entryTypes = map[files.Type]string{
	files.Regular: "FILE_TYPE_FILE",
	files.Dir:     "FILE_TYPE_DIRECTORY",
	files.Symlink: "FILE_TYPE_SYMLINK",
	files.Other:   "FILE_TYPE_UNSPECIFIED",
}

// describe looks at a file.
func (h *handler) describe(path string) (entryInfo, error) {
	e, err := h.box.Files().Stat(path)
	if err != nil {
		return entryInfo{}, err
	}
	return h.info(e), nil
}

// info tells about a file, with what it leads to, if it is a link, and its metadata.
func (h *handler) info(e files.Entry) entryInfo {
	mode := modeOf(e)
	info := entryInfo{
		Name: e.Name, Type: entryTypes[e.Type], Path: e.Path, Size: e.Size, Mode: uint32(mode.Perm()), Permissions: mode.String(),
		Owner: e.Owner, Group: e.Group, ModifiedTime: timestamp(e.ModifiedAt),
	}
	if e.Owner == h.user().user {
		info.Owner = owner
	}
	if e.Group == h.user().group {
		info.Group = owner
	}
	path := pathOf(e.Path, e.PathBase64)
	if e.Type == files.Symlink {
		info.IsSymlink, info.Mode, info.SymlinkTarget = true, 0, &e.Path // as one that leads nowhere; clients leave out of lists what has no type
		if target, err := h.box.Files().StatTarget(path); err == nil {
			info.Type, info.Mode, info.SymlinkTarget = entryTypes[target.Type], uint32(modeOf(target).Perm()), &target.Path
		}
	}
	info.Metadata, _ = h.box.Files().Attributes(path, metadataPrefix) // of what cannot be read there is none
	return info
}

// pathOf returns the bytes of a path, which need not be text.
func pathOf(text string, exact []byte) string {
	if exact != nil {
		return string(exact)
	}
	return text
}

// modeOf returns the mode as package os has it, which tells it as clients expect it.
func modeOf(e files.Entry) os.FileMode {
	bits, _ := strconv.ParseUint(e.Mode, 8, 32) // of four digits
	mode := os.FileMode(bits & 0o777)
	for bit, flag := range map[uint64]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	switch e.Type {
	case files.Dir:
		mode |= os.ModeDir
	case files.Symlink:
		mode |= os.ModeSymlink
	case files.Other:
		mode |= os.ModeIrregular
	}
	return mode
}

// timestamp writes a time as google.protobuf.Timestamp, whose fractions have 0, 3, 6 or 9 digits.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }
