package fleet

import (
	"crypto/hmac"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const previewPrefix = "sbl_"

// PreviewToken returns a token for those who are to reach one port of a sandbox, until a time, of which whole seconds count.
func (f *Fleet) PreviewToken(id string, port int, until time.Time) string {
	ends := strconv.FormatInt(until.Unix(), 36)
	return previewPrefix + ends + "_" + f.sign(fmt.Sprintf("preview %s %d %s", id, port, ends))
}

// PreviewUntil returns until when a token opens a port of a sandbox, which may have ended: the zero time where it does not, or
// does no more.
func (f *Fleet) PreviewUntil(id string, port int, token string) time.Time {
	ends, _, _ := strings.Cut(strings.TrimPrefix(token, previewPrefix), "_")
	seconds, err := strconv.ParseInt(ends, 36, 64)
	until := time.Unix(seconds, 0)
	if err != nil || !hmac.Equal([]byte(token), []byte(f.PreviewToken(id, port, until))) || !time.Now().Before(until) {
		return time.Time{}
	}
	return until
}
