package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/cmd/internal/shoptest"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/providers/memory"
)

// run executes one command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return cli.Run(ctx, newRootCommand(), args, stdout, stderr)
}

// operator types command lines to a shop.
type operator struct {
	*shoptest.Shop
	t *testing.T
}

func newOperator(t *testing.T, altered bool) operator {
	t.Helper()
	o := operator{shoptest.New(t, altered, shoptest.Serve), t}
	o.run("release", "add", o.Release)
	return o
}

// run executes a command line against the shop and returns what it printed.
func (o operator) run(args ...string) string {
	o.t.Helper()
	out, code := o.try(args...)
	if code != cli.ExitDone {
		o.t.Fatalf("shed %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

func (o operator) try(args ...string) (string, int) {
	o.t.Helper()
	var out, errs bytes.Buffer
	code := run(o.t.Context(), append([]string{"--state", o.State}, args...), &out, &errs)
	o.t.Logf("shed %s: exit %d\n%s%s", strings.Join(args, " "), code, &errs, &out)
	if code != cli.ExitDone {
		return errs.String(), code
	}
	return out.String(), code
}

func parse[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func (o operator) onlyInstance() adminclient.Instance {
	o.t.Helper()
	all := parse[adminclient.Instances](o.t, o.run("--json", "instance", "list")).Instances
	if len(all) != 1 {
		o.t.Fatalf("%d instances", len(all))
	}
	return all[0]
}

func TestSignupBecomesReadyAndDeletionLeavesNothing(t *testing.T) {
	o := newOperator(t, false)
	id := parse[outcome](t, o.run("--json", "webhook", "send", "--user", "amara")).Instance
	i := parse[adminclient.Instance](t, o.run("--json", "instance", "wait", id, "--timeout", "60s"))
	if i.State != "ready" || i.URL == "" || i.Tier != "software" || !i.Healthy {
		t.Errorf("%+v", i)
	}
	var a attest.AttestationResult
	if err := json.Unmarshal(i.AttestationResult, &a); err != nil || !a.Accepted() {
		t.Errorf("appraisal %s: %v", i.AttestationResult, err)
	}
	if list := o.run("instance", "list"); !strings.Contains(list, i.URL) {
		t.Errorf("list: %s", list)
	}
	o.run("instance", "delete", "amara", "--wait", "--timeout", "60s")
	page, err := o.Cloud.List(t.Context(), "", "")
	if err == nil && len(page.Resources) != 0 {
		t.Errorf("left behind: %v", page.Resources)
	}
	if out := o.run("instance", "list"); strings.Contains(out, id) {
		t.Errorf("still listed: %s", out)
	}
}

// An instance is found by its user, its id or the beginning of that; deleting
// says that it was asked for and not that it is done.
func TestInstancesByName(t *testing.T) {
	o := newOperator(t, false)
	id := parse[adminclient.Instance](t, o.run("--json", "instance", "create", "--user", "amara")).ID
	for _, name := range []string{"amara", id, id[:7]} {
		if i := parse[adminclient.Instance](t, o.run("--json", "instance", "show", name)); i.ID != id {
			t.Errorf("%s is %s, want %s", name, i.ID, id)
		}
	}
	if out := o.run("events", "--instance", "amara"); !strings.Contains(out, id[:shownID]) {
		t.Errorf("history: %s", out)
	}
	for _, name := range []string{"nobody", "zzzzzzzzzzzzzzzzzzzzzzzzzz"} {
		if out, code := o.try("instance", "show", name); code != cli.ExitNotFound || !strings.Contains(out, "not found") {
			t.Errorf("%s: exit %d: %s", name, code, out)
		}
	}
	if out := o.run("instance", "delete", id[:7]); !strings.Contains(out, "deletion requested: instance "+id) {
		t.Errorf("delete: %s", out)
	}
	digest := parse[adminclient.Releases](t, o.run("--json", "release", "list")).Releases[0].Digest
	if out := o.run("release", "show", digest[:16]); !strings.Contains(out, digest) {
		t.Errorf("release: %s", out)
	}
}

func TestAlteredImageIsQuarantinedByTheRegisterThatDiffers(t *testing.T) {
	o := newOperator(t, true)
	out, code := o.try("instance", "create", "--user", "amara", "--wait", "--timeout", "60s")
	if code != cli.ExitRefused || !strings.Contains(out, "pcr11") {
		t.Errorf("exit %d: %s", code, out)
	}
	i := o.onlyInstance()
	if i.State != "quarantined" || i.URL != "" || !strings.Contains(i.Reason, "pcr11") {
		t.Errorf("%+v", i)
	}
}

// A control plane that is stopped and started again finds the machine ready:
// the agent comes back by itself.
func TestRestartFindsTheMachineAgain(t *testing.T) {
	o := newOperator(t, false)
	o.run("instance", "create", "--user", "amara", "--wait", "--timeout", "60s")
	before := o.onlyInstance()
	if err := o.Stop(); err != nil {
		t.Fatal(err)
	}
	if out, code := o.try("instance", "list"); code != cli.ExitUnreachable || !strings.Contains(out, "hint:") {
		t.Errorf("exit %d: %s", code, out)
	}
	o.Start(shoptest.Serve)
	if after := o.onlyInstance(); after.Machine != before.Machine || after.State != "ready" {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if n := o.Cloud.Calls(memory.CallCreate); n != 1 {
		t.Errorf("%d machines were asked for", n)
	}
}
