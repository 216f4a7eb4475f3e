package files

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Append adds all that content gives to the end of a file that is there, following links. Others see it grow. Where
// content or the disk fails, what was added until then stays.
func (r *Root) Append(ctx context.Context, path string, content io.Reader) error {
	p, err := r.target(path, nil)
	if err == nil {
		defer p.close()
		err = r.append(ctx, p, content)
	}
	return failure("append to", path, err)
}

func (r *Root) append(ctx context.Context, p place, content io.Reader) error {
	if st, err := p.stat(); err != nil {
		return err
	} else if err := regular(&st); err != nil {
		return err // before it is opened, which does something to some devices
	}
	fd, err := openAt(p.fd(), p.base, unix.O_WRONLY|unix.O_APPEND, 0)
	if err != nil {
		return err
	}
	d := &draft{f: os.NewFile(uintptr(fd), p.base), dir: p.dir}
	defer d.close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := regular(&st); err != nil {
		return err
	}
	return d.fill(ctx, content)
}
