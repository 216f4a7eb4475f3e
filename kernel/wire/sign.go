package wire

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
	"sync"
)

// Signer signs messages and checks signatures (the messaging specification's
// "The Wire Protocol"). The zero Signer neither signs nor checks. It is safe for
// concurrent use.
type Signer struct {
	hashes *sync.Pool // of hash.Hash, keyed
}

var schemes = map[string]func() hash.Hash{
	"hmac-md5":    md5.New,
	"hmac-sha1":   sha1.New,
	"hmac-sha224": sha256.New224,
	"hmac-sha256": sha256.New,
	"hmac-sha384": sha512.New384,
	"hmac-sha512": sha512.New,
}

// NewSigner returns the signer of a connection file's signature_scheme ("" stands
// for hmac-sha256) and key, whose bytes are used as they are. With an empty key
// messages are not signed.
func NewSigner(scheme, key string) (Signer, error) {
	if scheme == "" {
		scheme = "hmac-sha256"
	}
	construct, ok := schemes[strings.ToLower(scheme)]
	if !ok {
		return Signer{}, fmt.Errorf("signature_scheme: %q is not supported", scheme)
	}
	if key == "" {
		return Signer{}, nil
	}
	return Signer{&sync.Pool{New: func() any { return hmac.New(construct, []byte(key)) }}}, nil
}

// sum appends the signature of the parts to dst, not yet in hexadecimal.
func (s Signer) sum(dst []byte, parts ...[]byte) []byte {
	h := s.hashes.Get().(hash.Hash)
	defer s.hashes.Put(h)
	h.Reset()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(dst)
}

// sign returns the signature frame of the parts: empty where there is no key.
func (s Signer) sign(parts ...[]byte) []byte {
	if s.hashes == nil {
		return []byte{}
	}
	var buf [sha512.Size]byte
	return hex.AppendEncode(nil, s.sum(buf[:0], parts...))
}

// verify returns the first bytes of the parts' signature, and whether the frame
// holds that signature.
func (s Signer) verify(frame []byte, parts ...[]byte) (uint64, bool) {
	if s.hashes == nil {
		return 0, true
	}
	var want, got [sha512.Size]byte
	sum := s.sum(want[:0], parts...)
	if len(frame) != hex.EncodedLen(len(sum)) {
		return 0, false
	}
	n, err := hex.Decode(got[:], frame)
	if err != nil || !hmac.Equal(got[:n], sum) {
		return 0, false
	}
	return binary.BigEndian.Uint64(sum), true
}

// historySize is how many signatures a History remembers: as many as jupyter_client does.
const historySize = 1 << 16

// History remembers the signatures of the latest messages of one socket, so
// that a message which somebody recorded and sent again is known for what it is.
// An honest kernel never sends the same message twice: msg_id and date differ.
// The zero History is ready for use, by one goroutine.
type History struct {
	seen map[uint64]struct{}
	ring []uint64 // in the order of arrival, the oldest at next once it is full
	next int
}

// Repeats reports whether the message came before, and remembers it.
// It says false of unsigned messages.
func (h *History) Repeats(m *Message) bool {
	if m.signature == 0 {
		return false
	}
	if _, ok := h.seen[m.signature]; ok {
		return true
	}
	if h.seen == nil {
		h.seen = make(map[uint64]struct{})
	}
	h.seen[m.signature] = struct{}{}
	if len(h.ring) < historySize {
		h.ring = append(h.ring, m.signature)
		return false
	}
	delete(h.seen, h.ring[h.next])
	h.ring[h.next] = m.signature
	h.next = (h.next + 1) % historySize
	return false
}
