package main_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Where a sandbox has a root, it is whom calls of E2B's clients for "root" are done as: files, too, and what is looked at of a
// command before it starts.
func TestE2BRoot(t *testing.T) {
	t.Parallel()
	h := openHouse(t, "--root-template")
	var can struct{ Root struct{ Available bool } }
	if h.ask(t, "GET", "/v1/capabilities", "", 200, &can); !can.Root.Available {
		return // no root, or no control groups
	}
	var box struct{ SandboxID, EnvdAccessToken string }
	h.key = "e2b_0"
	h.ask(t, "POST", "/v2/sandboxes", `{"templateID":"k2sandbox/python:root","secure":true}`, 201, &box)
	call := func(user, path, media, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"E2b-Sandbox-Id": box.SandboxID, "E2b-Sandbox-Port": "49983", "X-Access-Token": box.EnvdAccessToken, "Content-Type": media} {
			req.Header.Set(name, value)
		}
		req.SetBasicAuth(user, "")
		resp, err := h.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(resp.StatusCode, " ", string(text))
	}
	const fs = "/filesystem.Filesystem/"
	start := func(user, cmd, cwd string) string {
		body := fmt.Sprintf(`{"process":{"cmd":%q,"cwd":%q}}`, cmd, cwd)
		got := call(user, "/process.Process/Start", "application/connect+json", string([]byte{0, 0, 0, byte(len(body) >> 8), byte(len(body))})+body)
		if out := base64.StdEncoding.EncodeToString([]byte("/root/closed root\n")); strings.Contains(got, out) {
			return "as root"
		}
		return got
	}
	for _, c := range []struct{ got, want string }{
		{call("root", "/files?path=/etc/made&username=root", "application/octet-stream", "x"), `200 [{"path":"/etc/made"`},
		{call("root", "/files?path=near&username=root", "application/octet-stream", "x"), `200 [{"path":"/root/near"`},
		{call("root", fs+"Stat", "application/json", `{"path":"near"}`), `"owner":"root","group":"root"`},
		{call("root", fs+"MakeDir", "application/json", `{"path":"/root/closed"}`), "200 "},
		{call("root", fs+"Move", "application/json", `{"source":"/etc/made","destination":"/usr/moved"}`), "200 "},
		{call("root", fs+"Remove", "application/json", `{"path":"/usr/moved"}`), "200 "},
		{call("user", fs+"Stat", "application/json", `{"path":"/usr/moved"}`), "404 "},
		{call("user", "/files?path=/etc/made&username=user", "application/octet-stream", "x"), "403 "},
		{call("user", fs+"Remove", "application/json", `{"path":"/root/near"}`), "403 "},
		{call("root", "/files?path=closed/prog&username=root", "application/octet-stream", "#!/bin/sh\necho $(pwd) $(id -un)\n"), "200 "},
		{h.in(box.SandboxID).printed(t, "!sudo chmod 700 /root/closed /root/closed/prog"), ""},
		{call("root", fs+"ListDir", "application/json", `{"path":"closed"}`), `"/root/closed/prog"`},
		{start("root", "./prog", "/root/closed"), "as root"},
		{start("user", "./prog", "/root/closed"), "cannot be entered"},
		{call("root", "/files?path=/proc/self/comm&username=root", "application/octet-stream", "x"), "403 "},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("got %.300s, want %s", c.got, c.want)
		}
	}
	h.stopped(t)
}
