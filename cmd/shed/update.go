package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

const updateLong = `update is the owner's word about what their machine runs next. Who runs the machine
can offer it a release; the machine takes one only with its owner's approval, or
under the policy that shed claim --standing-updates signed. It tries the release
and is back on the one from before by itself where that does not do well; its
data is there either way.`

func newUpdateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "update", Short: "see and approve the release that your machine is offered", Long: updateLong}
	cmd.AddCommand(newUpdateStatusCommand(), newUpdateApproveCommand())
	return cmd
}

func newUpdateStatusCommand() *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "status URL",
		Short: "show what your machine is offered, and how far it is",
		Long: `status verifies your machine at URL and shows the release that it was offered last:
what it is by your own policy, what is in it that the one which runs does not
have, and how far the machine is.
` + clientHelp + `

Exits with 4 where the machine is refused or not yours, or where it waits for your
approval of a release that your policy refuses.`,
		Args: cobra.ExactArgs(1),
		RunE: flags.run((*relyingParty).updateStatus),
	}
	flags.register(cmd)
	return cmd
}

func newUpdateApproveCommand() *cobra.Command {
	var flags clientFlags
	var wait bool
	cmd := &cobra.Command{
		Use:   "approve URL",
		Short: "let the release that your machine is offered have its data",
		Long: `approve verifies your machine at URL and the release that it is offered, by the
same policy, shows what it is, and signs with the owner key that it may take over:
this release, on this machine, from the one that it runs, once. It asks nothing
more. --wait stays until the machine runs it or is back on the one from before,
and verifies it anew after each restart.
` + clientHelp + `

Exits with 0 once it is approved, or with --wait once the machine runs it; 1 where
it fell back; 4 where no release waits for approval, where your policy refuses the
one that does (its signature, the log, a withdrawal, an older epoch), and where the
machine is refused or not yours; 6 where --timeout, 10m with --wait, passed before.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait && !cmd.Flags().Changed("timeout") {
				flags.timeout = updateTimeout
			}
			return flags.run(func(c *relyingParty, ctx context.Context, cmd *cobra.Command) error {
				return c.approve(ctx, cmd, wait)
			})(cmd, args)
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "stay until the machine runs it or fell back")
	return cmd
}

// updateTimeout is how long approve --wait stays where no flag says so.
const updateTimeout = 10 * time.Minute

// ownSession is a verified session with a machine that this owner has claimed, and
// what it is offered.
func (c *relyingParty) ownSession(ctx context.Context, cmd *cobra.Command, keys client.Keys) (*client.Session, *client.OfferedUpdate, error) {
	session, err := c.session(ctx, cmd)
	if err != nil {
		return nil, nil, err
	}
	o, err := session.Offered(ctx, keys)
	if err == nil {
		err = c.remember(ctx, session)
	}
	if err != nil {
		session.Close() //nolint:errcheck // it is given up
		return nil, nil, refusedByMachine(err)
	}
	return session, o, nil
}

// ownersKeys are those of a machine that this owner has claimed.
func (c *relyingParty) ownersKeys() (client.Keys, error) {
	if _, err := c.claimed(); err != nil {
		return client.Keys{}, err
	}
	return c.state.Keys(rand.Reader)
}

func (c *relyingParty) updateStatus(ctx context.Context, cmd *cobra.Command) error {
	keys, err := c.ownersKeys()
	if err != nil {
		return err
	}
	session, o, err := c.ownSession(ctx, cmd, keys)
	if err != nil {
		return err
	}
	defer session.Close()
	shown := c.describe(session, o)
	if err := shown.show(cmd); err != nil {
		return err
	}
	if o.Step == client.UpdateAwaiting && shown.refusal != nil {
		return shown.refusal
	}
	return nil
}

func (c *relyingParty) approve(ctx context.Context, cmd *cobra.Command, wait bool) error {
	keys, err := c.ownersKeys()
	if err != nil {
		return err
	}
	session, o, err := c.ownSession(ctx, cmd, keys)
	if err != nil {
		return err
	}
	defer func() { session.Close() }() //nolint:errcheck // what was asked for is done
	shown := c.describe(session, o)
	a, err := session.Approve(ctx, keys, o)
	switch {
	case errors.Is(err, client.ErrNoOffer):
		return cli.Hinted(explainNoOffer(err, o), "shed update status %s", c.machine)
	case err != nil:
		return refusedByMachine(err)
	}
	shown.Approved = true
	if !wait {
		return shown.show(cmd)
	}
	if !cli.WantsJSON(cmd) {
		if err := shown.write(cmd.OutOrStdout()); err != nil {
			return err
		}
	}
	session.Close() //nolint:errcheck // what follows connects anew
	err = c.followUpdate(ctx, cmd.ErrOrStderr(), keys, a.Body.Release, &shown)
	if !cli.WantsJSON(cmd) || err != nil {
		return err
	}
	return shown.show(cmd)
}

// explainNoOffer says what is there in place of an offer.
func explainNoOffer(err error, o *client.OfferedUpdate) error {
	switch o.Step {
	case "":
		return fmt.Errorf("%w: it is offered none", err)
	case client.UpdateRefused, client.UpdateFellBack:
		return fmt.Errorf("%w: of release %.16s it says %s (%s); it has to be offered again", err, o.Release, o.Step, o.Reason)
	}
	return fmt.Errorf("%w: of release %.16s it says %s", err, o.Release, o.Step)
}

// offeredRelease is what an owner sees of an offer.
type offeredRelease struct {
	URL    string `json:"url"`
	Step   string `json:"step,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Release is the digest, and the fields behind it what the client's own policy
	// vouches for; they are empty where it vouches for nothing, and Refused says why.
	Release      string   `json:"release,omitempty"`
	Version      string   `json:"version,omitempty"`
	Epoch        uint64   `json:"epoch,omitempty"`
	Transparency string   `json:"transparency,omitempty"`
	Changes      []string `json:"changes,omitempty"`
	Refused      string   `json:"refused,omitempty"`
	// SecureBoot is what the release changes of Secure Boot's variables; nil where
	// that is nothing.
	SecureBoot *shownChange `json:"secure_boot,omitempty"`
	// Running is the release that the session was verified on.
	Running  runningRelease `json:"running"`
	Approved bool           `json:"approved,omitempty"`

	refusal error
}

type runningRelease struct {
	Release string `json:"release"`
	Version string `json:"version"`
	Epoch   uint64 `json:"epoch"`
}

func (c *relyingParty) describe(s *client.Session, o *client.OfferedUpdate) offeredRelease {
	shown := offeredRelease{
		URL: c.machine.String(), Step: string(o.Step), Reason: o.Reason,
		Running: runningRelease{Release: s.Logged.Digest.String(), Version: s.Release.Version, Epoch: s.Release.Epoch},
	}
	if o.Step == "" {
		return shown
	}
	shown.Release = o.Release.String()
	logged, err := s.Vouched(o)
	switch {
	case errors.Is(err, client.ErrNoOffer):
		// It shows the release no more: it has come to an end with it.
	case err != nil:
		shown.Refused, shown.refusal = err.Error(), err
	default:
		shown.Version, shown.Epoch = logged.Manifest.Version, logged.Manifest.Epoch
		shown.Transparency = logged.Transparency(c.trust.Now())
		shown.Changes = changed(s.Release, logged.Manifest)
		shown.SecureBoot = showChange(s.Change(logged))
	}
	return shown
}

// changed are the inputs of a release that another does not have, or not so.
func changed(from, to *release.Manifest) (all []string) {
	had := map[string]attest.Digest{}
	for _, in := range from.Inputs {
		had[in.Name] = in.SHA256
	}
	for _, in := range to.Inputs {
		switch before, known := had[in.Name]; {
		case !known:
			all = append(all, "+"+in.Name)
		case before != in.SHA256:
			all = append(all, in.Name)
		}
		delete(had, in.Name)
	}
	for _, in := range from.Inputs {
		if _, gone := had[in.Name]; gone {
			all = append(all, "-"+in.Name)
		}
	}
	return all
}

func (r offeredRelease) show(cmd *cobra.Command) error {
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
	}
	return r.write(cmd.OutOrStdout())
}

// shownChanges is how many of the inputs that changed are named to a person.
const shownChanges = 12

func (r offeredRelease) write(w io.Writer) error {
	lines := []string{fmt.Sprintf("running: version %s, epoch %d, release %.16s…", r.Running.Version, r.Running.Epoch, r.Running.Release)}
	switch {
	case r.Release == "":
		lines = append(lines, "no release is offered")
	case r.Refused != "":
		lines = append(lines, fmt.Sprintf("offered: release %.16s…, which your policy refuses: %s", r.Release, r.Refused))
	case r.Version == "":
		lines = append(lines, fmt.Sprintf("offered last: release %.16s…", r.Release))
	default:
		lines = append(lines, fmt.Sprintf("offered: version %s, epoch %d, release %s", r.Version, r.Epoch, r.Release),
			"transparency: "+r.Transparency, "changes: "+r.changes())
		if r.SecureBoot != nil {
			lines = append(lines, "secure boot: "+r.SecureBoot.String())
		}
	}
	if r.Step != "" {
		lines = append(lines, "step: "+strings.Trim(r.Step+" ("+r.Reason+")", " ()"))
	}
	if r.Approved {
		lines = append(lines, fmt.Sprintf("approved: release %.16s… may have the data of %s", r.Release, r.URL))
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

func (r offeredRelease) changes() string {
	switch n := len(r.Changes); {
	case n == 0:
		return "none of what it is made from"
	case n > shownChanges:
		return fmt.Sprintf("%s and %d more", strings.Join(r.Changes[:shownChanges], ", "), n-shownChanges)
	}
	return strings.Join(r.Changes, ", ")
}
