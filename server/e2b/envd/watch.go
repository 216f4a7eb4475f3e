package envd

import (
	"context"
	"encoding/json"
	"net/http"
	gopath "path"
	"strings"

	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/journal"
)

type watchRequest struct {
	Path         string `json:"path"`
	Recursive    bool   `json:"recursive"`
	IncludeEntry bool   `json:"includeEntry"`
	// allowNetworkMounts says nothing here: what is mounted in a sandbox is watched.
}

// filesystemEvent is filesystem.FilesystemEvent.
type filesystemEvent struct {
	Name  string     `json:"name"` // relative to the directory that is watched
	Type  string     `json:"type"`
	Entry *entryInfo `json:"entry,omitempty"`
}

// The types of events, filesystem.EventType.
const (
	eventCreate = "EVENT_TYPE_CREATE"
	eventWrite  = "EVENT_TYPE_WRITE"
	eventRemove = "EVENT_TYPE_REMOVE"
	eventRename = "EVENT_TYPE_RENAME"
	eventChmod  = "EVENT_TYPE_CHMOD"
)

// eventTypes are those of what our watches tell.
var eventTypes = map[journal.Type]string{
	files.Created:    eventCreate,
	files.Modified:   eventWrite,
	files.Removed:    eventRemove,
	files.Renamed:    eventRename,
	files.Attributes: eventChmod,
}

// observer is a watch as these clients know it.
type observer struct {
	h            *handler
	watch        *files.Watch
	path         string // as the client named the directory
	includeEntry bool
}

func (h *handler) observe(ctx context.Context, q *watchRequest) (*observer, error) {
	path, err := resolve(h.home, q.Path)
	if err != nil {
		return nil, err
	}
	watch, err := h.box.Files().Watch(ctx, path, q.Recursive)
	if err != nil {
		return nil, err
	}
	return &observer{h, watch, gopath.Clean(path), q.IncludeEntry}, nil
}

// errLost ends a watch of which events were lost.
var errLost = errorf(aborted, "events were lost, as too many came at once: watch the directory anew")

// events returns what a line says.
func (o *observer) events(line journal.Line) ([]filesystemEvent, error) {
	var e files.Event
	if err := json.Unmarshal(line.JSON, &e); err != nil {
		return nil, err
	}
	path := pathOf(e.Path, e.PathBase64)
	switch line.Type {
	case files.Overflow:
		return nil, errLost
	case journal.End:
		return o.ending(e.Reason), nil
	case files.Renamed:
		return []filesystemEvent{o.event(eventRename, pathOf(e.From, e.FromBase64)), o.event(eventCreate, path)}, nil
	}
	return []filesystemEvent{o.event(eventTypes[line.Type], path)}, nil
}

// ending returns what happened to the directory itself.
func (o *observer) ending(reason string) []filesystemEvent {
	if reason == files.Moved {
		return []filesystemEvent{{Name: ".", Type: eventRename}}
	}
	return []filesystemEvent{{Name: ".", Type: eventRemove}}
}

// event tells what happened to a path. What was removed or renamed is looked at no more:
// another file can be there.
func (o *observer) event(typ, path string) filesystemEvent {
	top := o.watch.Path()
	name := strings.TrimPrefix(path, strings.TrimSuffix(top, "/")+"/")
	if path == top {
		name = "."
	}
	e := filesystemEvent{Name: name, Type: typ}
	if o.includeEntry && typ != eventRemove && typ != eventRename {
		if entry, err := o.h.describe(gopath.Join(o.path, name)); err == nil { // it may be gone by now
			e.Entry = &entry
		}
	}
	return e
}

// watchDir streams what happens in a directory, until that goes.
func (h *handler) watchDir(r *http.Request, q *watchRequest, s *stream) error {
	ctx, cancel := bounded(r)
	defer cancel()
	o, err := h.observe(ctx, q)
	if err != nil {
		return err
	}
	defer o.watch.Close()
	s.keep(`{"keepalive":{}}`)
	if err := s.send([]byte(`{"start":{}}`), true); err != nil {
		return err
	}
	for line, err := range o.watch.Lines(ctx, 0) {
		if err != nil && ctx.Err() != nil {
			return over(ctx)
		}
		if err != nil {
			return err
		}
		if line.Type == journal.End && closed(line) {
			cut()
		}
		if err := o.send(line, s); err != nil {
			return err
		}
	}
	return nil
}

// closed reports whether a watch ended with its sandbox.
func closed(line journal.Line) bool {
	var e files.Event
	return json.Unmarshal(line.JSON, &e) == nil && e.Reason == files.Closed
}

func (o *observer) send(line journal.Line, s *stream) error {
	events, err := o.events(line)
	if err != nil {
		return err
	}
	for _, e := range events {
		raw, err := json.Marshal(map[string]filesystemEvent{"filesystem": e})
		if err == nil {
			err = s.send(raw, !line.More)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
