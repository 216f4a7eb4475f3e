package server_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// upload starts a server whose PUT / reads a stream, and sends how that ends.
func upload(t *testing.T, o server.Options) (*httptest.Server, <-chan error) {
	t.Helper()
	ends := make(chan error, 1)
	srv := httptest.NewServer(server.New([]server.Route{{Method: "PUT", Path: "/", Body: server.Unbounded, Handle: func(w http.ResponseWriter, r *http.Request) error {
		_, err := io.Copy(io.Discard, server.Body(w, r, o.WithDefaults()))
		ends <- err
		return err
	}}}, o))
	t.Cleanup(srv.Close)
	return srv, ends
}

func TestABodyThatStallsIsGivenUp(t *testing.T) {
	srv, ends := upload(t, server.Options{WriteTimeout: 400 * time.Millisecond})
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	var told *api.Error
	if err := <-ends; !errors.As(err, &told) || told.Code != api.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 504") {
		t.Errorf("got %q", answer)
	}
}

// A payload that stalls holds no more than a stream does.
func TestAPayloadThatStallsIsGivenUp(t *testing.T) {
	srv := httptest.NewServer(server.New([]server.Route{{Method: "POST", Path: "/", Handle: func(w http.ResponseWriter, r *http.Request) error {
		return server.Decode(r, &struct{}{})
	}}}, server.Options{WriteTimeout: 400 * time.Millisecond}))
	defer srv.Close()
	for _, length := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\n"+length+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(conn)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 504") || !strings.Contains(string(answer), string(api.DeadlineExceeded)) {
			t.Errorf("%s: got %q", length, answer)
		}
	}
}

// One that nobody reads is not waited for any longer.
func TestABodyThatNobodyReadsIsGivenUp(t *testing.T) {
	for status, handle := range map[string]func(w http.ResponseWriter, r *http.Request) error{
		"200": func(w http.ResponseWriter, _ *http.Request) error { return nil },
		"409": func(http.ResponseWriter, *http.Request) error { return api.Errorf(api.Conflict, "no") },
	} {
		srv := httptest.NewServer(server.New([]server.Route{{Method: "POST", Path: "/", Handle: handle, Body: server.Unbounded}}, server.Options{WriteTimeout: 400 * time.Millisecond}))
		defer srv.Close()
		for _, length := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\n"+length+"\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if answer, _ := io.ReadAll(conn); !strings.HasPrefix(string(answer), "HTTP/1.1 "+status) {
				t.Errorf("%s: got %q", length, answer)
			}
		}
	}
}

// The time that a payload has is over with it, and one that nobody reads has none.
func TestAnAnswerOutlivesTheTimeOfItsPayload(t *testing.T) {
	for _, reads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFeed()
			o := server.Options{WriteTimeout: time.Second, Ping: time.Hour}
			client := piped(t, server.New([]server.Route{{Method: "POST", Path: "/", Handle: func(w http.ResponseWriter, r *http.Request) error {
				if reads {
					if err := server.Decode(r, &struct{}{}); err != nil {
						return err
					}
				}
				_, err := server.Follow(w, r, o.WithDefaults(), 0, f.follow)
				return err
			}}}, o))
			resp, err := client.Post("http://localhost", "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			time.Sleep(time.Minute) // longer than a read may take
			f.lines <- line(1, "end", false)
			close(f.lines)
			if got, err := io.ReadAll(resp.Body); err != nil || string(got) != `{"seq":1,"type":"end"}`+"\n" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestABodyThatIsCutIsToldApart(t *testing.T) {
	for body, code := range map[string]api.Code{
		"Content-Length: 100\r\n\r\nhalf":                    api.ClientClosed,
		"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n":    api.ClientClosed,
		"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n\r\n": api.InvalidRequest,
	} {
		srv, ends := upload(t, server.Options{})
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: localhost\r\n"+body); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		var told *api.Error
		if err := <-ends; !errors.As(err, &told) || told.Code != code {
			t.Errorf("%q: got %v", body, err)
		}
	}
}

// A file goes to the connection by itself, in pieces, also where only a part of it is asked for.
func TestAnswersThatAreFiles(t *testing.T) {
	text := strings.Repeat("0123456789", 200_000)
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sources := map[string]func(f *os.File) io.Reader{
		"all":         func(f *os.File) io.Reader { return f },
		"a part":      func(f *os.File) io.Reader { return io.LimitReader(f, 1_000_003) },
		"no file":     func(f *os.File) io.Reader { return io.MultiReader(f) },
		"a short one": func(f *os.File) io.Reader { return io.LimitReader(f, 3) },
		"nothing":     func(f *os.File) io.Reader { return io.LimitReader(f, 0) },
	}
	want := map[string]int{"all": len(text), "a part": 1_000_003, "no file": len(text), "a short one": 3}
	for name2, source := range sources {
		for _, sized := range []bool{true, false} {
			copied := make(chan int64, 1)
			srv := httptest.NewServer(server.New([]server.Route{{Method: "GET", Path: "/", Handle: func(w http.ResponseWriter, _ *http.Request) error {
				f, err := os.Open(name)
				if err != nil {
					return err
				}
				defer f.Close()
				if sized {
					w.Header().Set("Content-Length", fmt.Sprint(want[name2]))
				}
				n, err := w.(io.ReaderFrom).ReadFrom(source(f))
				copied <- n
				return err
			}}}, server.Options{}))
			resp, err := srv.Client().Get(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if n := <-copied; err != nil || string(got) != text[:want[name2]] || n != int64(len(got)) || resp.StatusCode != 200 {
				t.Errorf("%s, sized %v: %d bytes, %d copied, want %d: %v", name2, sized, len(got), n, want[name2], err)
			}
			srv.Close()
		}
	}
}

// Who closes a body while another goroutine finds its end, as a proxy does, ends no request that comes after it.
func TestABodyThatIsClosedAtItsEnd(t *testing.T) {
	srv := httptest.NewServer(server.New([]server.Route{{Method: "PUT", Path: "/", Body: server.Unbounded, Handle: func(w http.ResponseWriter, r *http.Request) error {
		body := server.Body(w, r, server.Options{}.WithDefaults())
		if _, err := io.ReadFull(body, make([]byte, 4)); err != nil {
			return err
		}
		begun := make(chan struct{})
		go func() {
			for i := range 1000 {
				body.Read(make([]byte, 1))
				if i == 10 {
					close(begun)
				}
			}
		}()
		<-begun
		body.Close()
		return r.Context().Err()
	}}}, server.Options{}))
	defer srv.Close()
	for range 500 {
		req, err := http.NewRequest("PUT", srv.URL, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		told, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", resp.Status, told)
		}
	}
}
