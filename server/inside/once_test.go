package inside_test

import (
	"crypto/rand"
	"strconv"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

func TestRunSentAgainRunsOnce(t *testing.T) {
	quick(t, "again = 0")
	key, req := rand.Text(), api.RunRequest{Code: "again += 1; print(again)"}
	first := open(t, call(t, "POST", "/v1/code", req, "Idempotency-Key", key))
	said := first.end(t, executor.OK)
	second := open(t, call(t, "POST", "/v1/code", req, "Idempotency-Key", key))
	if all := second.end(t, executor.OK); second.id != first.id || len(all) != len(said) || text(all, executor.Stdout) != "1\n" {
		t.Errorf("%s, and then %s: %+v", first.id, second.id, all)
	}
	other := api.RunRequest{Code: "again += 1"}
	refused(t, call(t, "POST", "/v1/code", other, "Idempotency-Key", key), 422, api.Unprocessable)
	if got := mainText(t, quick(t, "again")); got != "1" {
		t.Errorf("it ran %s times", got)
	}
}

func TestProcessSentAgainStartsOnce(t *testing.T) {
	key, req := rand.Text(), api.ProcessRequest{Cmd: "echo $$", Background: true}
	first := get[api.Process](t, call(t, "POST", "/v1/processes", req, "Idempotency-Key", key), 201)
	second := get[api.Process](t, call(t, "POST", "/v1/processes", req, "Idempotency-Key", key), 201)
	if first.Pid != second.Pid {
		t.Errorf("pid %d, and then %d", first.Pid, second.Pid)
	}
	call(t, "DELETE", "/v1/processes/"+strconv.Itoa(first.Pid), nil)
}

func TestInstallationSentAgainIsOne(t *testing.T) {
	key, req := rand.Text(), api.PackagesRequest{Packages: []string{"ipykernel"}, Detach: true}
	first := get[api.Install](t, call(t, "POST", "/v1/packages", req, "Idempotency-Key", key), 202)
	second := get[api.Install](t, call(t, "POST", "/v1/packages", req, "Idempotency-Key", key), 202)
	if first.InstallID != second.InstallID {
		t.Errorf("%s, and then %s", first.InstallID, second.InstallID)
	}
}
