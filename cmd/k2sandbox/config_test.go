package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	check := func(text string) result {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return run(t, call{args: []string{"config", "check", file}})
	}
	for _, good := range []string{"", "# nothing\n", "memory: 512\ncpus: 0.5\nallow-host: [a.example, b.example]\ntimeout: 10m\ne2b: false\n", "allow-host: one\n", "{\"memory\": 512}\n"} {
		check(good).expect(t, 0, file+": good\n")
	}
	for text, parts := range map[string][]string{
		"memory: 512\nmemmory: 1\nlog-level: loud\ncpus: many\n": {":2: memmory: there is no such setting", ":3: log-level: ", ":4: cpus: "},
		"memory: 1\n\nmemory: 2\n":                               {":3: memory: is there already, on line 1"},
		"memory: [1, 2]\n":                                       {":1: memory: want a value"},
		"memory:\n":                                              {":1: memory: want a value"},
		"allow-host: {a: b}\n":                                   {":1: allow-host: want a value, or a list"},
		"allow-host:\n  - a\n  - {b: c}\n":                       {":1: allow-host: line 3: want a value"},
		"- memory\n":                                             {":1: want settings"},
		"memory: 1\n  cpus: 2\n":                                 {"line 2"},
		"config: other.yaml\n":                                   {":1: config: there is no such setting"},
		"memory: 0\n":                                            {"--memory 0: want more than nothing"},
		"on-stop: stay\n":                                        {"--on-stop"},
		"listen: 0.0.0.0:80\n":                                   {"reachable from other machines"},
		"tls-cert: cert.pem\n":                                   {"tls-key"},
		"api-keys: /nowhere\n":                                   {"--api-keys", "no such file"},
	} {
		got := check(text)
		if got.status != 1 {
			t.Errorf("%q: status %d", text, got.status)
		}
		got.complains(t, append(parts, file)...)
	}
	run(t, call{args: []string{"config", "check", filepath.Dir(file)}}).complains(t, "is no file")
	run(t, call{args: []string{"serve", "--config", "/nowhere"}}).complains(t, "/nowhere")
}

// What the files in deploy say is what the program takes.
func TestDeployedConfig(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/systemd/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("a-key-of-some-length\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "/etc/k2sandbox/keys", keys)), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, call{args: []string{"config", "check", file}}).expect(t, 0, file+": good\n")
}

// A server does as its file says where no flag does, and its registry is copied while it runs and when it does not.
func TestConfigAndBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, copied := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "copy.db")
	if err := os.WriteFile(file, []byte("memory: 300\npids: 200\nlisten: unix:/nowhere/at/all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := openHouse(t, "--config", file, "--pids", "150")
	box := h.create(t)
	if box.Limits.MemoryMB != 300 || box.Limits.Pids != 150 {
		t.Errorf("got %+v", box.Limits)
	}
	look := func() {
		t.Helper()
		run(t, call{args: []string{"backup", "--state-dir", h.state, copied}}).expect(t, 0, "")
		info, err := os.Stat(copied)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
		db, err := bolt.Open(copied, 0o600, &bolt.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.View(func(tx *bolt.Tx) error {
			found := tx.Bucket([]byte("live")).Get([]byte(box.SandboxID)) != nil || tx.Bucket([]byte("ended")).Get([]byte(box.SandboxID)) != nil
			if !found {
				t.Errorf("%s is not in the copy", box.SandboxID)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	look()
	h.stopped(t)
	look()
	run(t, call{args: []string{"backup", "--state-dir", dir, copied}}).complains(t, "registry")
	if names, _ := filepath.Glob(filepath.Join(dir, ".k2-backup-*")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}
