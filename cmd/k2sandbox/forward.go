package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// A server that has handed over answers what still comes by its open connections by asking the one that has the sandboxes by
// now, at the control socket in their folder, and then closes the connection: a client never finds one closed that it just
// uses.

// forwardedHeader tells how a request has come that one server asks another. The control socket alone takes it.
const forwardedHeader = "K2-Forwarded"

// origin is how a request has come.
type origin struct {
	Remote  string `json:"remote"`
	Network string `json:"network"` // of the address that it came to
	Address string `json:"address"`
	TLS     bool   `json:"tls"`
	Port    int    `json:"port"` // see portKey
}

func originOf(r *http.Request) origin {
	from := origin{Remote: r.RemoteAddr, TLS: r.TLS != nil, Port: portOf(r)}
	if to, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		from.Network, from.Address = to.Network(), to.String()
	}
	return from
}

// restored returns a request that was forwarded as it came.
func restored(r *http.Request) (*http.Request, error) {
	var from origin
	if err := json.Unmarshal([]byte(r.Header.Get(forwardedHeader)), &from); err != nil {
		return nil, err
	}
	r.Header.Del(forwardedHeader)
	var to net.Addr = &net.UnixAddr{Net: from.Network, Name: from.Address}
	if from.Network == "tcp" {
		tcp, err := net.ResolveTCPAddr("tcp", from.Address)
		if err != nil {
			return nil, err
		}
		to = tcp
	}
	r = r.WithContext(context.WithValue(withPort(r.Context(), from.Port), http.LocalAddrContextKey, to))
	r.RemoteAddr = from.Remote
	if from.TLS {
		r.TLS = &tls.ConnectionState{} // of which nobody asks more than whether it is there
	}
	return r, nil
}

// redial is how long the other server may not be there, as where it was killed and is started again.
const redial = 10 * time.Second

// forwarder returns a handler that asks the server that has the folder.
func forwarder(dir string, log *slog.Logger) http.Handler {
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				for begin := time.Now(); ; {
					conn, err := dialControl(ctx, dir)
					if err == nil || time.Since(begin) > redial {
						return conn, err
					}
					select {
					case <-time.After(50 * time.Millisecond):
					case <-ctx.Done():
						return nil, err
					}
				}
			},
			DisableCompression: true,
			DisableKeepAlives:  true, // each is the last of its connection
		},
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = &url.URL{ // not Opaque, of which "//name" would come to the other server as a Host that the client has not sent
				Scheme: "http", Host: "server", Path: p.In.URL.Path, RawPath: p.In.URL.RawPath, RawQuery: p.In.URL.RawQuery, ForceQuery: p.In.URL.ForceQuery,
			}
			p.Out.Host = p.In.Host
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if values, ok := p.In.Header[name]; ok {
					p.Out.Header[name] = values
				}
			}
			text, _ := json.Marshal(originOf(p.In)) // cannot fail
			p.Out.Header.Set(forwardedHeader, string(text))
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				log.Warn("the server that has taken over does not answer", "error", err)
			}
			server.WriteJSON(w, http.StatusServiceUnavailable, api.ErrorBody{Error: *api.Errorf(api.Unavailable, "the server ends")})
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
		}
		_ = http.NewResponseController(w).EnableFullDuplex() // where the connection can
		proxy.ServeHTTP(w, r)
	})
}

// portKey is of the port of E2B's debug mode that a request has come to: 0 where it is the server's own.
type portKey struct{}

func withPort(ctx context.Context, port int) context.Context {
	if port == 0 {
		return ctx
	}
	return context.WithValue(ctx, portKey{}, port)
}

func portOf(r *http.Request) int {
	port, _ := r.Context().Value(portKey{}).(int)
	return port
}
