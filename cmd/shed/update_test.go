package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// owned is what a machine has of its owner, and of what it is offered.
type owned struct {
	claim *ownership.Claim
	offer evidence.ReferenceValues
	step  channel.Update
	// ends are the steps that follow on the approval, one with each look.
	ends []channel.Update
	// before is what the machine showed before it tried another release.
	before evidence.ReferenceValues
}

// owner is somebody with a client and one machine, which boots each release to the
// same registers.
type owner struct {
	t   *testing.T
	x   *tiny
	key logtest.ReleaseKey
	log *logtest.Log
	dir string
	url string
}

func newOwner(t *testing.T) *owner {
	t.Helper()
	o := &owner{t: t, key: logtest.NewReleaseKey(t), log: logtest.New(t, 2), dir: t.TempDir()}
	o.x = &tiny{t: t, m: verifiertest.Boot(t), owned: &owned{}}
	o.x.shown = signed(t, o.key, o.log, o.x.m.Release)
	o.url = o.x.serve(o)
	files := map[string][]byte{
		"release.pub": publicPEM(o.key), "ek-root.pem": certificatePEM(o.x.m), "log.vkey": []byte(o.log.Policy().Log.String()),
	}
	for _, w := range o.log.Policy().Witnesses {
		files["witnesses"] = append(files["witnesses"], w.Key.String()+" dev\n"...)
	}
	write(t, filepath.Join(o.dir, "client"), files)
	return o
}

// Defer is how a machine ends with its test.
func (o *owner) Defer(f func()) { o.t.Cleanup(f) }

// offer has the machine offered a release of an epoch, signed by key, and say the
// steps that follow on its approval. It answers the index in the log.
func (o *owner) offer(epoch uint64, key logtest.ReleaseKey, ends ...channel.Update) int64 {
	o.t.Helper()
	m, err := release.ParseManifest(o.x.shown.Manifest)
	if err != nil {
		o.t.Fatal(err)
	}
	m.Epoch, m.Version = epoch, fmt.Sprintf("1.%d.0", epoch)
	m.Inputs = append([]release.Input{{Name: "agent", SHA256: attest.Digest{byte(epoch)}, Bytes: 1}}, m.Inputs...)[:2]
	manifest, err := m.Encode()
	if err != nil {
		o.t.Fatal(err)
	}
	index := o.log.Add(logtest.EntryFor(o.t, key, m, manifest))
	offer := evidence.ReferenceValues{Manifest: manifest, Bundle: logtest.NewBundle(o.t, key, manifest), Proof: o.log.Document(index)}
	o.x.owned.offer, o.x.owned.ends = offer, ends
	o.x.owned.step = channel.Update{
		Step: "awaiting-approval", Release: attest.ReleaseDigest(attest.Sum(manifest)), Manifest: manifest, Bundle: offer.Bundle, Proof: offer.Proof,
	}
	return index
}

// run is a command of the owner's: it has to exit with code, and to print each text.
func (o *owner) run(code int, args []string, texts ...string) {
	o.t.Helper()
	var out, errs bytes.Buffer
	got := run(o.t.Context(), append([]string{"--state", o.dir}, args...), &out, &errs)
	all := out.String() + errs.String()
	if got != code {
		o.t.Errorf("shed %v: exit %d, want %d\n%s", args, got, code, all)
	}
	for _, text := range texts {
		if !regexp.MustCompile("(?m)" + text).MatchString(all) {
			o.t.Errorf("shed %v: no %q in\n%s", args, text, all)
		}
	}
}

func (o *owner) says(steps ...string) (all []channel.Update) {
	for _, step := range steps {
		all = append(all, channel.Update{Step: step})
	}
	return all
}

// An owner sees what their machine is offered, approves it, and follows it across the
// restart.
func TestOwnerApprovesAnUpdate(t *testing.T) {
	o := newOwner(t)
	o.run(cli.ExitRefused, []string{"update", "approve", o.url}, "not a machine you claimed", "hint: shed claim ")
	o.run(cli.ExitUsage, []string{"claim", "--update-delay", "1h", o.url}, "goes with --standing-updates")
	o.run(cli.ExitUsage, []string{"claim", "--standing-updates", "--update-delay", "9000h", o.url}, "9000h")
	o.run(cli.ExitUsage, []string{"claim", "--standing-updates", "--update-delay", "1500ms", o.url}, "whole seconds")
	o.run(cli.ExitDone, []string{"claim", "--standing-updates", "--update-delay", "1h", o.url})
	if p := o.x.owned.claim.Body.Update; p.Consent != ownership.UpdateStanding || p.Delay != 3600 {
		t.Errorf("the claim says %+v", p)
	}
	o.run(cli.ExitDone, []string{"update", "status", o.url}, "^running: version 1.0.0, epoch 3", "^no release is offered$")
	o.run(cli.ExitRefused, []string{"update", "approve", o.url}, "^shed: refused: no release waits for your approval: it is offered none$")

	o.offer(4, o.key, o.says("fetching", "installing", "trying", "done")...)
	o.run(cli.ExitDone, []string{"update", "status", o.url}, "^offered: version 1.4.0, epoch 4, release [0-9a-f]{64}$",
		"^transparency: log.test.example size [0-9]+, 2 of 2 witnesses", `^changes: \+agent$`, "^step: awaiting-approval$")
	o.run(cli.ExitDone, []string{"--json", "update", "status", o.url}, `"step":"awaiting-approval",.*"version":"1.4.0","epoch":4,"transparency":"log.test`)
	o.run(cli.ExitDone, []string{"update", "approve", "--wait", o.url}, "^approved: release [0-9a-f]+… may have the data of https://",
		"verified on version 1.0.0: fetching", "verified on version 1.4.0: trying", "verified on version 1.4.0: done")
	o.run(cli.ExitDone, []string{"update", "status", o.url}, "^running: version 1.4.0, epoch 4", "^step: done$")
	o.run(cli.ExitDone, []string{"verify", o.url}, "^accepted$")
	// From now on what is older is refused.
	o.x.shown = o.x.owned.before
	o.run(cli.ExitRefused, []string{"verify", o.url}, "epoch 3, below the floor 4")
}

// A trial raises no floor: the release from before is still its owner's.
func TestOwnerFollowsAnUpdateThatFallsBack(t *testing.T) {
	o := newOwner(t)
	o.run(cli.ExitDone, []string{"claim", o.url})
	if p := o.x.owned.claim.Body.Update; p.Consent != ownership.UpdateAsk || p.Delay != 0 {
		t.Errorf("the claim says %+v", p)
	}
	o.offer(4, o.key, append(o.says("installing", "trying"), channel.Update{Step: "fell-back", Reason: "payload-unhealthy"})...)
	o.run(cli.ExitFailed, []string{"update", "approve", "--wait", o.url}, "verified on version 1.4.0: trying",
		"back on version 1.0.0, with its data as it was: the payload was not healthy in time")
	o.run(cli.ExitDone, []string{"verify", o.url}, "^accepted$")
	o.run(cli.ExitRefused, []string{"update", "approve", o.url}, `it says fell-back \(payload-unhealthy\); it has to be offered again`)
	// Nothing comes of the next in time.
	o.offer(4, o.key, o.says("fetching")...)
	o.run(cli.ExitTimedOut, []string{"update", "approve", "--wait", "--timeout", "2s", o.url}, "last seen: verified on version 1.0.0: fetching")
}

// What the owner's own policy refuses is not approved, and shown as refused.
func TestOwnerCannotApproveWhatTheirPolicyRefuses(t *testing.T) {
	o := newOwner(t)
	o.run(cli.ExitDone, []string{"claim", o.url})
	for want, offer := range map[string]func(){
		"version 1.2.0 has epoch 2, below the floor 3": func() { o.offer(2, o.key) },
		"bad signature": func() { o.offer(5, logtest.NewReleaseKey(t)) },
		"was withdrawn": func() {
			index := o.offer(6, o.key)
			n := o.log.Add(o.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{
				Manifest: o.x.owned.step.Release, Reason: logentry.ReasonVulnerable,
			}}))
			o.x.owned.step.Proof = o.log.Document(index, n)
		},
	} {
		offer()
		o.run(cli.ExitRefused, []string{"update", "approve", o.url}, want)
		o.run(cli.ExitRefused, []string{"update", "status", o.url}, "which your policy refuses: .*"+want)
		if o.x.owned.step.Step != "awaiting-approval" {
			t.Errorf("%s: it was approved", want)
		}
	}
}

// The owner's client and the agent call the steps the same.
func TestStepsHaveOneName(t *testing.T) {
	for agent, owners := range map[api.UpdateStep]client.UpdateStep{
		api.UpdateAwaiting: client.UpdateAwaiting, api.UpdateFetching: client.UpdateFetching, api.UpdateInstalling: client.UpdateInstalling,
		api.UpdateTrying: client.UpdateTrying, api.UpdateDone: client.UpdateDone, api.UpdateRefused: client.UpdateRefused, api.UpdateFellBack: client.UpdateFellBack,
	} {
		if string(agent) != string(owners) || agent.Ended() != owners.Ended() {
			t.Errorf("%s is %s", agent, owners)
		}
	}
	for _, reason := range []api.UpdateReason{
		api.ReasonUnclaimed, api.ReasonUnsigned, api.ReasonUnlogged, api.ReasonOlder, api.ReasonOtherMachine, api.ReasonNoRoom,
		api.ReasonUnreadable, api.ReasonNotStarted, api.ReasonNotEnrolled, api.ReasonUnhealthy, api.ReasonInstallFailed,
	} {
		if updateReasons[string(reason)] == "" {
			t.Errorf("nobody is told what %s means", reason)
		}
	}
}

// serveOwner answers what only an owner asks for; ok is false for the rest.
func (x *tiny) serveOwner(w http.ResponseWriter, r *http.Request) (ok bool) {
	if x.owned == nil {
		return false
	}
	switch r.Method + " " + r.URL.Path {
	case "GET " + channel.ClaimPath:
		nonce := attest.Nonce{1}
		w.Write(nonce[:]) //nolint:errcheck // the client's error tells
	case "POST " + channel.ClaimPath:
		x.takeClaim(w, r)
	case "GET " + channel.ClaimDocumentPath:
		w.Write(x.owned.claim.Encode()) //nolint:errcheck // the client's error tells
	case "GET " + channel.RecoveryPath:
		w.WriteHeader(http.StatusNotFound)
	case "GET " + channel.UpdatePath:
		x.showUpdate(w)
	case "POST " + channel.UpdatePath:
		x.takeApproval(w, r)
	default:
		return false
	}
	return true
}

func (x *tiny) takeClaim(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		x.t.Error(err)
	}
	if x.owned.claim, err = ownership.Parse(b); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	x.m.Extend(x.t, attest.RegisterClaim, x.owned.claim.Digest())
}

// showUpdate shows the offer, or the next thing that came of it. At the end the
// machine is on the release that it was offered.
func (x *tiny) showUpdate(w http.ResponseWriter) {
	shown := x.owned.step
	if shown.Number = 1; shown.Step != "awaiting-approval" && len(x.owned.ends) > 0 {
		shown.Step, shown.Reason = x.owned.ends[0].Step, x.owned.ends[0].Reason
		x.owned.step = shown
		x.owned.ends = x.owned.ends[1:]
		switch {
		case shown.Step == "installing":
			x.owned.before, x.shown = x.shown, x.owned.offer
		case shown.Step == "trying" && x.owned.ends[0].Step == "fell-back":
			x.shown = x.owned.before
		}
	}
	b, err := canon.Marshal(shown)
	if err != nil {
		x.t.Error(err)
	}
	w.Write(b) //nolint:errcheck // the client's error tells
}

func (x *tiny) takeApproval(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		x.t.Error(err)
	}
	a, err := ownership.ParseApproval(b, x.owned.claim)
	if err != nil || a.Body.Release != x.owned.step.Release || a.Body.Number != 1 {
		x.t.Errorf("approval of %s, number %d: %v", a.Body.Release, a.Body.Number, err)
		w.WriteHeader(http.StatusConflict)
		return
	}
	x.owned.step.Step = "approved"
}
