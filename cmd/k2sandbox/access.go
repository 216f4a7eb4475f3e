package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/server"
)

// keysVariable holds API keys, one a line or separated by commas, as in --api-keys.
const keysVariable = "K2_API_KEYS"

// access are the flags that say who may use a server.
type access struct {
	keys, cert, key string
	clients         string // file of those who sign the certificates that clients need; "": they need none
	token           string // an API key more, of the name "gateway"
	remote          bool
}

func (a *access) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.keys, "api-keys", "", "file with the API keys, NAME:KEY or KEY on each line, of which every request needs one (more may be in $"+keysVariable+")")
	cmd.Flags().StringVar(&a.cert, "tls-cert", "", "file with the certificate chain (PEM): serve HTTPS")
	cmd.Flags().StringVar(&a.key, "tls-key", "", "file with the certificate's private key (PEM)")
	cmd.Flags().StringVar(&a.clients, "tls-client-ca", "", "file with certificates (PEM) of authorities, one of which has to have signed that of each client")
	cmd.Flags().BoolVar(&a.remote, "unsafe-allow-remote", false, "listen on an address that other machines reach without any API key: all of them can run code here")
	_ = cmd.MarkFlagFilename("api-keys")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
}

// read returns the keys, of which there may be none, and what TLS needs, or nil.
func (a *access) read() (*server.Keys, *tls.Config, error) {
	lines := strings.ReplaceAll(os.Getenv(keysVariable), ",", "\n")
	_ = os.Unsetenv(keysVariable)
	if a.token != "" {
		lines += "\n" + gatewayKey + ":" + a.token
	}
	keys, err := server.ReadKeys(strings.NewReader(lines))
	if err != nil {
		return nil, nil, fmt.Errorf("$%s: %w", keysVariable, err)
	}
	if a.keys != "" {
		text, err := os.ReadFile(a.keys)
		if err != nil {
			return nil, nil, fmt.Errorf("--api-keys: %w", err)
		}
		if keys, err = server.ReadKeys(strings.NewReader(lines + "\n" + string(text))); err != nil {
			return nil, nil, fmt.Errorf("--api-keys: %w", err)
		}
		if keys.Len() == 0 {
			return nil, nil, errors.New("--api-keys: the file has no keys")
		}
	}
	secure, err := a.secure()
	return keys, secure, err
}

// secure returns what TLS needs; nil where there is none.
func (a *access) secure() (*tls.Config, error) {
	if a.cert == "" {
		if a.clients != "" {
			return nil, errors.New("--tls-client-ca: there is no --tls-cert")
		}
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(a.cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if a.clients == "" {
		return c, nil
	}
	text, err := os.ReadFile(a.clients)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca: %w", err)
	}
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("--tls-client-ca: the file has no certificates")
	}
	return c, nil
}
