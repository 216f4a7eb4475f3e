package fleet

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// record is what the registry keeps of a sandbox: enough to take it back, and after
// its end enough to say why. Environment variables are not in it.
type record struct {
	ID        string            `json:"id"`
	Owner     string            `json:"owner,omitempty"`
	Template  string            `json:"template,omitempty"`
	Cwd       string            `json:"cwd,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Limits    Limits            `json:"limits"` // before the runtime gave what it can
	Network   Network           `json:"network"`
	Timeout   time.Duration     `json:"timeout"` // ns
	CreatedAt time.Time         `json:"created_at"`
	EndsAt    time.Time         `json:"ends_at,omitzero"` // its term; zero: Timeout holds
	AutoPause bool              `json:"auto_pause,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`

	Paused  bool            `json:"paused,omitempty"`
	Machine json.RawMessage `json:"machine,omitempty"`

	Reason  Reason    `json:"reason,omitempty"`
	EndedAt time.Time `json:"ended_at,omitzero"`
}

// Buckets of the registry. A record is in live, by id, or in ended, by id; byEnd has
// the latter's endKey, so that the oldest can be forgotten and the newest listed.
var (
	bucketLive  = []byte("live")
	bucketEnded = []byte("ended")
	bucketByEnd = []byte("ended_at")
	bucketMeta  = []byte("meta")
	keyFormat   = []byte("format")
	keySecret   = []byte("secret")
)

// format is that of the records. A registry of another one is not touched.
const format = "1"

// registry is the records on disk. Its methods are safe for concurrent use. Writes
// are on disk in the order in which they were asked for, as many at once as wait.
type registry struct {
	db   *bolt.DB
	keep time.Duration
	most int // records of ended sandboxes

	secret []byte // of which access tokens are made

	wake chan struct{}
	done chan struct{}

	mu     sync.Mutex
	queue  []write
	closed bool

	ended int // records in ended; the writer's alone
}

type write struct {
	change func(tx *bolt.Tx) error
	done   chan<- error
}

// openRegistry opens the registry in a directory, which it makes where there is none.
// One process at a time can have it.
func openRegistry(dir string, keep time.Duration, most int) (*registry, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the registry's directory: %w", err)
	}
	file := filepath.Join(dir, "registry.db")
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: 5 * time.Second, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("cannot open the registry %s: another server uses it", file)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the registry %s: %w", file, err)
	}
	r := &registry{db: db, keep: keep, most: most, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err := db.Update(r.furnish); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the registry %s: %w", file, err), db.Close())
	}
	go r.run()
	return r, nil
}

func (r *registry) furnish(tx *bolt.Tx) error {
	for _, name := range [][]byte{bucketLive, bucketEnded, bucketByEnd, bucketMeta} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	if found := meta.Get(keyFormat); found != nil && string(found) != format {
		return fmt.Errorf("it has the format %q, and this server knows %q alone", found, format)
	}
	r.ended = tx.Bucket(bucketEnded).Stats().KeyN
	r.secret = bytes.Clone(meta.Get(keySecret))
	if r.secret == nil {
		r.secret = []byte(rand.Text() + rand.Text()) // 256 bits
		if err := meta.Put(keySecret, r.secret); err != nil {
			return err
		}
	}
	return meta.Put(keyFormat, []byte(format))
}

// close waits for all writes.
func (r *registry) close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.nudge()
	<-r.done
	return r.db.Close()
}

// put writes the record of a live sandbox. The channel gives the outcome, once.
func (r *registry) put(rec record) <-chan error {
	return r.write(func(tx *bolt.Tx) error {
		text, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		return tx.Bucket(bucketLive).Put([]byte(rec.ID), text)
	})
}

// end moves the record of a sandbox from the live to the ended.
func (r *registry) end(rec record) <-chan error {
	rec.Machine, rec.Paused = nil, false
	return r.write(func(tx *bolt.Tx) error {
		text, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		id := []byte(rec.ID)
		r.ended++
		return errors.Join(
			tx.Bucket(bucketLive).Delete(id),
			tx.Bucket(bucketEnded).Put(id, text),
			tx.Bucket(bucketByEnd).Put(endKey(rec.EndedAt, rec.ID), nil),
			r.prune(tx),
		)
	})
}

// forget drops what ended too long ago.
func (r *registry) forget() <-chan error { return r.write(r.prune) }

func (r *registry) prune(tx *bolt.Tx) error {
	oldest := endKey(time.Now().Add(-r.keep), "")
	cursor := tx.Bucket(bucketByEnd).Cursor()
	for key, _ := cursor.First(); key != nil; key, _ = cursor.First() {
		if r.ended <= r.most && bytes.Compare(key, oldest) >= 0 {
			return nil
		}
		r.ended--
		if err := errors.Join(tx.Bucket(bucketEnded).Delete(key[8:]), cursor.Delete()); err != nil {
			return err
		}
	}
	return nil
}

// live returns the records of all sandboxes that have not ended.
func (r *registry) live() ([]record, error) {
	var found []record
	err := r.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketLive).ForEach(func(id, text []byte) error {
			var rec record
			if err := json.Unmarshal(text, &rec); err != nil {
				return fmt.Errorf("the record of sandbox %q makes no sense: %w", id, err)
			}
			found = append(found, rec)
			return nil
		})
	})
	return found, err
}

// get returns the record of a sandbox that has ended; ErrNotFound where there is none.
func (r *registry) get(id string) (record, error) {
	var rec record
	err := r.view(func(tx *bolt.Tx) error {
		text := tx.Bucket(bucketEnded).Get([]byte(id))
		if text == nil {
			return notFound(id)
		}
		return json.Unmarshal(text, &rec)
	})
	if err == nil && time.Since(rec.EndedAt) > r.keep {
		err = notFound(id)
	}
	return rec, err
}

// newest passes the records of ended sandboxes to visit, the last to end first,
// beginning before a place, until visit returns false.
func (r *registry) newest(before place, visit func(record) bool) error {
	return r.view(func(tx *bolt.Tx) error {
		cursor := tx.Bucket(bucketByEnd).Cursor()
		key, _ := cursor.Last()
		if !before.at.IsZero() {
			if found, _ := cursor.Seek(endKey(before.at, before.id)); found != nil {
				key, _ = cursor.Prev()
			}
		}
		for oldest := endKey(time.Now().Add(-r.keep), ""); key != nil && bytes.Compare(key, oldest) >= 0; key, _ = cursor.Prev() {
			var rec record
			if err := json.Unmarshal(tx.Bucket(bucketEnded).Get(key[8:]), &rec); err != nil {
				return fmt.Errorf("the record of sandbox %q makes no sense: %w", key[8:], err)
			}
			if !visit(rec) {
				return nil
			}
		}
		return nil
	})
}

// endKey sorts by time, and by id where that is the same.
func endKey(at time.Time, id string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano())), id...)
}

func (r *registry) view(look func(tx *bolt.Tx) error) error {
	err := r.db.View(look)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

func (r *registry) write(change func(tx *bolt.Tx) error) <-chan error {
	done := make(chan error, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		done <- ErrClosed
		return done
	}
	r.queue = append(r.queue, write{change, done})
	r.nudge()
	return done
}

func (r *registry) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run writes what is in the queue, all of it in one transaction, until close.
func (r *registry) run() {
	defer close(r.done)
	for range r.wake {
		r.mu.Lock()
		queue, closed := r.queue, r.closed
		r.queue = nil
		r.mu.Unlock()
		r.commit(queue)
		if closed {
			return
		}
	}
}

func (r *registry) commit(queue []write) {
	if len(queue) == 0 {
		return
	}
	before := r.ended
	err := r.db.Update(func(tx *bolt.Tx) error {
		for _, w := range queue {
			if err := w.change(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.ended = before
		err = fmt.Errorf("cannot write to the registry: %w", err)
	}
	for _, w := range queue {
		w.done <- err
	}
}
