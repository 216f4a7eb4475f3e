package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// log returns the log, and what is to be called once there is nothing more to say to who started this server.
func (o *serving) log() (log *slog.Logger, capture func() error, err error) {
	var to io.Writer = os.Stderr
	capture = func() error { return nil }
	if o.logFile != "" {
		file, err := openLog(o.logFile)
		if err != nil {
			return nil, nil, err
		}
		to, capture = file, file.capture
	}
	options := &slog.HandlerOptions{Level: o.s.logLevel}
	if o.json {
		return slog.New(slog.NewJSONHandler(to, options)), capture, nil
	}
	return slog.New(slog.NewTextHandler(to, options)), capture, nil
}

// logFileSize is how long a log file gets before it is kept as FILE.1, in place of an earlier one.
const logFileSize = 8 << 20

// logLook is how often is looked whether another process has kept the file and begun one: one that takes over logs to the same.
const logLook = time.Second

// logFile is a log that is bounded. It is safe for concurrent use.
type logFile struct {
	path string

	mu       sync.Mutex
	file     *os.File
	size     int64
	looked   time.Time // whether it is still the file of that path
	late     bool      // it could not be rotated then
	captures bool
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("--log-file: %w", err)
	}
	return l, nil
}

// capture has what this process says on standard error go to the log, also what the Go
// runtime says when it crashes.
func (l *logFile) capture() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.captures = true
	return l.redirect()
}

// Write writes a line. Where the file cannot be rotated the line goes to the one that is open, and the next look tries again.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size >= logFileSize && !l.late || time.Since(l.looked) >= logLook {
		l.late = l.rotate() != nil
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	return n, err
}

// rotate keeps the file, if it is full, and begins another, unless somebody else has done so. After an error there is a file to write to.
func (l *logFile) rotate() error {
	l.looked = time.Now()
	full := l.file
	// Who has the lock may be stopped, so that nobody waits for it. A file system may have no locks: it goes without them.
	if err := unix.Flock(int(full.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("cannot lock the log: %w", err)
	}
	defer func() {
		_ = unix.Flock(int(full.Fd()), unix.LOCK_UN) // others may have it as their standard error
		if l.file != full {
			full.Close()
		}
	}()
	ours, err := full.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(l.path); err == nil && os.SameFile(ours, there) {
		if l.size = ours.Size(); l.size < logFileSize {
			return nil
		}
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return err
		}
	}
	if err := l.open(); err != nil {
		return err
	}
	if !l.captures {
		return nil
	}
	return l.redirect()
}

func (l *logFile) open() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	l.file, l.size, l.looked = file, info.Size(), time.Now()
	return nil
}

func (l *logFile) redirect() error {
	if err := unix.Dup3(int(l.file.Fd()), int(os.Stderr.Fd()), 0); err != nil {
		return fmt.Errorf("cannot log what is said on standard error: %w", err)
	}
	return nil
}
