package inside_test

import (
	"slices"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
)

func TestCapabilitiesAreTrue(t *testing.T) {
	can := get[api.Capabilities](t, call(t, "GET", "/v1/capabilities", nil), 200)
	if can.Isolation.Mode != "none" || can.Isolation.Reason == "" || can.Pause.Available || can.Pause.Reason == "" {
		t.Errorf("got %+v", can)
	}
	if len(can.Kernels) == 0 || can.Kernels[0].Language != "python" {
		t.Errorf("kernels %+v", can.Kernels)
	}
	if !can.Packages.Available || can.Packages.Installer == "" || !slices.Equal(can.Packages.Deny, []string{"k2-denied"}) {
		t.Errorf("packages %+v", can.Packages)
	}
	if can.Limits.MaxBodyBytes != 2<<20 || can.Limits.MaxCodeBytes != 1<<20 || can.Limits.MaxContexts == 0 {
		t.Errorf("limits %+v", can.Limits)
	}
}
