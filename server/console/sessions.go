package console

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

const (
	linkTime = time.Minute    // that a link can be used
	lifetime = 12 * time.Hour // of a session

	most = 1000 // links, and sessions
)

// Sessions are those of browsers, and the links that begin them. Of their secrets it keeps the SHA-256. They outlive the server in a
// file, so that a restart logs nobody out.
type Sessions struct {
	file     string
	keys     *server.Keys
	readOnly bool

	mu       sync.Mutex
	links    map[string]session // by the hash of the token
	sessions map[string]session // by the hash of the cookie's value
}

// session is a session, or a link to one, of whoever has a key of that name; "" where none is needed.
type session struct {
	Key     string    `json:"key"`
	Expires time.Time `json:"expires"`
}

// OpenSessions reads the sessions of a file, which may not be there. Those of keys that are gone are over. If readOnly, no session
// may change anything.
func OpenSessions(file string, keys *server.Keys, readOnly bool) (*Sessions, error) {
	s := &Sessions{file: file, keys: keys, readOnly: readOnly, links: map[string]session{}, sessions: map[string]session{}}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read sessions: %w", err)
	}
	if json.Unmarshal(raw, &s.sessions) != nil || s.sessions == nil {
		s.sessions = map[string]session{} // half a file costs a login
	}
	return s, nil
}

// Link makes a link for an owner of a key and returns its token.
func (s *Sessions) Link(key string) (token string, expires time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token = rand.Text()
	made := session{key, time.Now().Add(linkTime).UTC()}
	bound(s.links)
	s.links[hash(token)] = made
	return token, made.Expires
}

// Begin begins the session that a link is for, which is used up. It returns the value of its cookie.
func (s *Sessions) Begin(token string) (value string, begun session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	link, ok := s.links[hash(token)]
	delete(s.links, hash(token))
	if !ok || !s.valid(link) {
		return "", session{}, api.Errorf(api.Unauthenticated, "the link is not known here, was used, or is older than %v", linkTime)
	}
	value = rand.Text()
	begun = session{link.Key, time.Now().Add(lifetime).UTC()}
	bound(s.sessions)
	s.sessions[hash(value)] = begun
	return value, begun, s.save()
}

// End ends the session of a cookie.
func (s *Sessions) End(value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sessions[hash(value)]; !ok {
		return nil
	}
	delete(s.sessions, hash(value))
	return s.save()
}

// listed is how much of the hash of a cookie names a session: too little to be of use to anybody else.
const listed = 16

// like returns the sessions of the key that the request's stands for, the newest first.
func (s *Sessions) like(r *http.Request) []api.ConsoleBrowser {
	own, _ := s.of(r)
	all := []api.ConsoleBrowser{}
	c, err := r.Cookie(server.SessionCookie(r))
	if err != nil {
		return all
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, one := range s.sessions {
		if one.Key == own.Key && s.valid(one) {
			all = append(all, api.ConsoleBrowser{
				ID: name[:listed], BegunAt: one.Expires.Add(-lifetime), ExpiresAt: one.Expires, Current: name == hash(c.Value),
			})
		}
	}
	slices.SortFunc(all, func(a, b api.ConsoleBrowser) int {
		return cmp.Or(b.BegunAt.Compare(a.BegunAt), strings.Compare(a.ID, b.ID))
	})
	return all
}

// endOf ends the session of a key that has the id.
func (s *Sessions) endOf(key, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, one := range s.sessions {
		if len(id) == listed && strings.HasPrefix(name, id) && one.Key == key {
			delete(s.sessions, name)
			return s.save()
		}
	}
	return api.Errorf(api.NotFound, "cannot find session %.64q", id)
}

// Caller is a server.Options.Session.
func (s *Sessions) Caller(r *http.Request) (server.Caller, bool) {
	found, ok := s.of(r)
	return server.Caller{Key: found.Key, ReadOnly: s.readOnly}, ok
}

// of returns the session whose cookie a request has.
func (s *Sessions) of(r *http.Request) (session, bool) {
	c, err := r.Cookie(server.SessionCookie(r))
	if err != nil {
		return session{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.sessions[hash(c.Value)]
	return found, ok && s.valid(found)
}

// valid reports whether a session has not expired, and still stands for a key if it has to.
func (s *Sessions) valid(one session) bool {
	return time.Now().Before(one.Expires) && (s.keys.Len() == 0 || s.keys.Named(one.Key))
}

// bound makes room for one more: what has expired goes, and then what expires first.
func bound(all map[string]session) {
	first := ""
	for name, one := range all {
		if time.Now().After(one.Expires) {
			delete(all, name)
		} else if first == "" || one.Expires.Before(all[first].Expires) {
			first = name
		}
	}
	if len(all) >= most {
		delete(all, first)
	}
}

// save writes the sessions, whole or not at all.
func (s *Sessions) save() error {
	raw, err := json.Marshal(s.sessions)
	if err != nil {
		return fmt.Errorf("cannot write sessions: %w", err)
	}
	draft, err := os.CreateTemp(filepath.Dir(s.file), ".sessions-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("cannot write sessions: %w", err)
	}
	defer os.Remove(draft.Name()) // fails once it has its name
	_, err = draft.Write(raw)
	if err = errors.Join(err, draft.Close()); err == nil {
		err = os.Rename(draft.Name(), s.file)
	}
	if err != nil {
		return fmt.Errorf("cannot write sessions: %w", err)
	}
	return nil
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
