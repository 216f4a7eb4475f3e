package main

import (
	"crypto/tls"
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
	remote          bool
}

func (a *access) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.keys, "api-keys", "", "file with the API keys, NAME:KEY or KEY on each line, of which every request needs one (more may be in $"+keysVariable+")")
	cmd.Flags().StringVar(&a.cert, "tls-cert", "", "file with the certificate chain (PEM): serve HTTPS")
	cmd.Flags().StringVar(&a.key, "tls-key", "", "file with the certificate's private key (PEM)")
	cmd.Flags().BoolVar(&a.remote, "unsafe-allow-remote", false, "listen on an address that other machines reach without any API key: all of them can run code here")
	_ = cmd.MarkFlagFilename("api-keys")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
}

// read returns the keys, of which there may be none, and what TLS needs, or nil.
func (a *access) read() (*server.Keys, *tls.Config, error) {
	lines := strings.ReplaceAll(os.Getenv(keysVariable), ",", "\n")
	_ = os.Unsetenv(keysVariable)
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
	if a.cert == "" {
		return keys, nil, nil
	}
	pair, err := tls.LoadX509KeyPair(a.cert, a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return keys, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}
