package reconcile

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/providers"
)

func TestAnAnswerAboutAnotherMachineIsRefused(t *testing.T) {
	r := &Reconciler{}
	r.Policy.Installation = "shop"
	asked := &step{}
	asked.Machine = "one"
	asked.Plan = orchestrator.Plan{Release: attest.ReleaseDigest{1}, Region: "here", Size: "small"}
	right := providers.Machine{ID: "one", Installation: "shop", Release: attest.ReleaseDigest{1}, Region: "here", Size: "small"}
	if err := r.another(asked, right); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*providers.Machine){
		"machine":      func(m *providers.Machine) { m.ID = "two" },
		"installation": func(m *providers.Machine) { m.Installation = "another" },
		"release":      func(m *providers.Machine) { m.Release = attest.ReleaseDigest{2} },
		"region":       func(m *providers.Machine) { m.Region = "there" },
		"size":         func(m *providers.Machine) { m.Size = "large" },
	} {
		m := right
		change(&m)
		if err := r.another(asked, m); providers.CodeOf(err) != providers.CodeInternal {
			t.Errorf("%s: %v", name, err)
		}
		m.Drift = "somebody changed it"
		if err := r.another(asked, m); err != nil {
			t.Errorf("%s, as drift: %v", name, err)
		}
	}
	anywhere := &step{}
	anywhere.Machine, anywhere.Plan.Release = "one", attest.ReleaseDigest{1}
	if err := r.another(anywhere, right); err != nil {
		t.Errorf("a plan without a place: %v", err)
	}
}
