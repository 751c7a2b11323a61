package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// clientFlags are what every command of the owner's client takes.
type clientFlags struct {
	policy      string
	releaseKey  string
	ekRoots     []string
	minimumTier string
	timeout     time.Duration
	log         logFlags
}

const clientHelp = policyHelp + `
Without a policy, what the client trusts is given by flags, by SHED_RELEASE_KEY, SHED_EK_ROOT and
SHED_MINIMUM_TIER, or by the files release.pub and ek-root.pem in the client's
directory, STATE/client. An endorsement root is worth the tier written behind
it, as in --ek-root emulator.pem=software; without one it is software.
` + logHelp

func (f *clientFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.policy, "policy", "", "policy that says what is accepted (default STATE/client/policy.yaml where it is there)")
	flags.StringVar(&f.releaseKey, "release-key", "", "public key that signs releases, PEM")
	flags.StringArrayVar(&f.ekRoots, "ek-root", nil, "authority of endorsement certificates, PEM, FILE[=TIER]; repeatable")
	flags.StringVar(&f.minimumTier, "minimum-tier", "", "least tier to accept: software, provider-rooted or hardware (default software)")
	f.log.register(flags)
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "give up after this long")
}

// relyingParty is one command's view of the owner's side.
type relyingParty struct {
	trust client.Trust
	state client.ClientState
	// lifetime is how long one verification is trusted, per request.
	lifetime time.Duration
	machine  *url.URL
}

func (f *clientFlags) open(cmd *cobra.Command, machine string) (*relyingParty, error) {
	u, err := parseMachine(machine)
	if err != nil {
		return nil, err
	}
	c, err := f.relyingParty(cmd)
	if err != nil {
		return nil, err
	}
	c.machine = u
	return c, nil
}

// relyingParty joins the policy and what the client has learned.
func (f *clientFlags) relyingParty(cmd *cobra.Command) (*relyingParty, error) {
	state := client.ClientState{Dir: filepath.Join(cli.StateDir(cmd), "client")}
	p, err := f.accepted(cmd, state.Dir)
	if err != nil {
		return nil, err
	}
	trust := client.Trust{
		ReleaseKey: p.ReleaseKeys[0], OtherKeys: p.ReleaseKeys[1:], Policy: p.Verifier, Log: p.Log, Learn: state.Learn,
		Verifier: new(verifier.Verifier), Releases: new(release.Verifier), Now: time.Now, Rand: rand.Reader,
	}
	for _, key := range p.ReleaseKeys {
		floor, err := state.EpochFloor(key)
		if err != nil {
			return nil, err
		}
		trust.Policy.EpochFloor = max(trust.Policy.EpochFloor, floor)
	}
	trust.Log.TimeFloor = buildTime()
	if trust.Log.Memory, err = state.LogMemory(); err != nil {
		return nil, err
	}
	return &relyingParty{trust: trust, state: state, lifetime: p.Lifetime}, nil
}

// parseMachine reads a machine's URL in the one spelling that it is remembered
// by: another spelling of its host would make it a machine never seen before.
func parseMachine(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return nil, cli.Usage(fmt.Errorf("url %q: want https://host:port", text))
	}
	u.Host = net.JoinHostPort(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), first(u.Port(), "443"))
	return u, nil
}

// first is the first of the texts that is not empty.
func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

func readReleaseKey(path string) (key any, err error) {
	b, err := readCapped(path, maxKeysFile)
	if err != nil {
		return nil, cli.Hinted(fmt.Errorf("reading release key: %w", err), "name the key that signs releases with --release-key")
	}
	return release.ParsePublicKey(b)
}

// maxRootsFile caps a file of endorsement roots, in bytes.
const maxRootsFile = 1 << 20

// readTrustAnchors reads FILE or FILE=TIER, a PEM file of certificates.
func readTrustAnchors(argument string) ([]verifier.TrustAnchor, error) {
	path, worth, ok := strings.Cut(argument, "=")
	tier := attest.TierSoftware
	if ok {
		if err := tier.UnmarshalText([]byte(worth)); err != nil {
			return nil, cli.Usage(fmt.Errorf("endorsement root %s: %w", path, err))
		}
	}
	text, err := readCapped(path, maxRootsFile)
	if err != nil {
		return nil, cli.Hinted(fmt.Errorf("reading endorsement root: %w", err), "name the authority of endorsement certificates with --ek-root")
	}
	roots, err := verifier.ParseTrustAnchors(text, tier)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return roots, nil
}

// claimed is the pin of a machine that this owner has claimed.
func (c *relyingParty) claimed() (*client.Pin, error) {
	pin, err := c.state.Pin(c.machine.Host)
	if err != nil {
		return nil, err
	}
	if pin == nil || pin.Claim.IsZero() {
		return nil, cli.Hinted(cli.Refused(fmt.Errorf("%s is not a machine you claimed", c.machine)), "shed claim %s", c.machine)
	}
	return pin, nil
}

// session opens a session with the machine; what refuses it is shown.
func (c *relyingParty) session(ctx context.Context, cmd *cobra.Command) (*client.Session, error) {
	pin, err := c.state.Pin(c.machine.Host)
	if err != nil {
		return nil, err
	}
	return c.sessionOf(ctx, cmd, pin)
}

// sessionOf is a session with the machine that was accepted before, or with any
// where pin is nil.
func (c *relyingParty) sessionOf(ctx context.Context, cmd *cobra.Command, pin *client.Pin) (*client.Session, error) {
	session, err := c.trust.Connect(ctx, c.machine, pin)
	var refusal *client.RefusedError
	if errors.As(err, &refusal) {
		return nil, errors.Join(c.show(cmd, claimsOf(c.machine.String(), refusal.Result, refusal.Evidence, c.trust.Now()), refusal.Evidence), err)
	}
	return session, err
}

// remember keeps the epoch that was accepted, of all the policy's keys since
// they are one publisher's and of the one that they were rotated to, which a
// later policy may name alone, and renews what is kept of a
// machine that was accepted before; a first verification alone pins nothing.
// The epoch of a release that may still be given up is not kept: the one before
// would be refused then.
func (c *relyingParty) remember(ctx context.Context, s *client.Session) error {
	pin, err := c.state.Pin(c.machine.Host)
	if err != nil {
		return err
	}
	onTrial, err := c.onTrial(ctx, s)
	if err != nil {
		return err
	}
	if !onTrial {
		if err := c.raiseEpochFloor(s); err != nil {
			return err
		}
	}
	if pin == nil {
		return nil
	}
	return c.state.Remember(c.machine.Host, s.Pin())
}

// onTrial asks an owner's machine, where there is a higher epoch to keep.
func (c *relyingParty) onTrial(ctx context.Context, s *client.Session) (bool, error) {
	if s.Evidence.Claim.IsZero() || s.Release.Epoch <= c.trust.Policy.EpochFloor {
		return false, nil
	}
	keys, err := c.state.DrawnKeys(rand.Reader)
	if keys == nil || err != nil {
		return false, err
	}
	if owner, err := s.Whose(ctx, keys); owner != client.Yours || err != nil {
		return false, err
	}
	return s.OnTrial(ctx, *keys)
}

func (c *relyingParty) raiseEpochFloor(s *client.Session) error {
	keys := c.trust.Keys()
	if s.Logged.Key != nil {
		keys = append(keys, s.Logged.Key)
	}
	for _, key := range keys {
		if err := c.state.RaiseEpochFloor(key, s.Release.Epoch); err != nil {
			return err
		}
	}
	return nil
}

// run is what verify and claim share: open the client, do one thing in time.
func (f *clientFlags) run(do func(*relyingParty, context.Context, *cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := f.open(cmd, args[0])
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
		defer cancel()
		return c.explain(do(c, ctx, cmd))
	}
}

// explain adds to a refusal what a person can do about it.
func (c *relyingParty) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, attest.ErrIdentity):
		return cli.Hinted(err, "if you replaced the machine yourself: shed forget %s", c.machine)
	case errors.Is(err, attest.ErrTransparency):
		return cli.Hinted(err, "a release counts only with a fresh proof from the log, which the machine gets from its control plane")
	case errors.Is(err, attest.ErrBinding):
		return cli.Hinted(err, "something between you and the machine may terminate tls; do not send it anything")
	case errors.Is(err, client.ErrBusy):
		return cli.Hinted(err, "it answers that it is busy; --timeout waits longer")
	case cli.ExitCode(err) == cli.ExitUnreachable:
		return cli.Hinted(err, "a machine takes some seconds to boot; shed instance list shows its state")
	default:
		return err
	}
}
