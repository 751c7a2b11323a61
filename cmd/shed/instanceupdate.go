package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// offerHelp says what an offer is, wherever one is made.
const offerHelp = `
An offer is all that an operator has: the machine fetches the release, and takes
it once its owner has approved it (shed update approve) or under the policy that
the owner signed at the claim. It tries the release, and is back on the one from
before by itself where that does not do well. No command forces it. Offering the
release that a machine runs takes the offer of another back. Where that release
changes db or dbx (shed image keys --help), and no other is on offer, the change is
what is offered: its owner approves it by itself.`

const instanceUpdateLong = `update offers an instance's machine a release, the default one without --release,
in place: its data stays. --wait stays until the machine says how it ended, and
shows each step.
` + offerHelp + `

With --wait, exits with 0 once the machine runs the release, 1 where it fell back,
4 where it was refused or taken back, 6 where --timeout passed before: the offer
stands then, and shed instance show says how far it is.

` + instanceLong

func newInstanceUpdateCommand() *cobra.Command {
	var w waitOptions
	var name string
	cmd := &cobra.Command{
		Use:   "update INSTANCE [--release RELEASE]",
		Short: "offer an instance's machine another release, in place",
		Long:  instanceUpdateLong,
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			i, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r, err := releaseNamed(cmd.Context(), c, name)
			if err != nil {
				return err
			}
			runs := i.Release == r.Digest
			if i, err = c.Offer(cmd.Context(), i.ID, r.Digest); err != nil {
				return err
			}
			if w.wait && (!runs || offeredOnly(i, r.Digest)) {
				if i, err = w.awaitUpdate(cmd, c, i, r.Digest); err != nil {
					return err
				}
				if !runs && r.SecureBootChange != "" {
					fmt.Fprintf(cmd.ErrOrStderr(), "hint: the release changes Secure Boot's %s, for which it is offered once more\n", r.SecureBootChange)
				}
			}
			return printInstance(cmd, i)
		}),
	}
	cmd.Flags().StringVar(&name, "release", "", "a release's digest, or a beginning of it that no other has (default the one for new machines)")
	w.flags(cmd, "done, refused or fallen back")
	return cmd
}

// releaseNamed is the release that name means, the default one for an empty name.
func releaseNamed(ctx context.Context, c *adminclient.Client, name string) (adminclient.Release, error) {
	if name != "" {
		return c.FindRelease(ctx, name)
	}
	all, err := c.Releases(ctx)
	if err != nil {
		return adminclient.Release{}, err
	}
	for _, r := range all {
		if r.Default {
			return r, nil
		}
	}
	return adminclient.Release{}, cli.Hinted(cli.NotFound(fmt.Errorf("no release for new machines")), "`shed release add` adds one")
}

// awaitUpdate follows an instance's history until the machine says how the offer of
// the release ended.
func (w *waitOptions) awaitUpdate(cmd *cobra.Command, c *adminclient.Client, i adminclient.Instance, digest string) (adminclient.Instance, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), w.timeout)
	defer cancel()
	return followUpdate(ctx, c, cmd.ErrOrStderr(), i.ID, digest)
}

func followUpdate(ctx context.Context, c *adminclient.Client, w io.Writer, id, digest string) (adminclient.Instance, error) {
	start := time.Now()
	events, err := c.Events(ctx, adminclient.EventQuery{Instance: id, Follow: true})
	if err != nil {
		return adminclient.Instance{}, err
	}
	defer events.Close()
	hinted := false
	for {
		i, err := c.Instance(ctx, id)
		if err != nil {
			return i, err
		}
		if over, err := updateEnded(i, digest); over {
			return i, err
		}
		if i.Update.Step == "awaiting-approval" && !hinted {
			hinted = true
			fmt.Fprintf(w, "its owner has to approve it: shed update approve %s\n", i.URL)
		}
		e, err := events.Next()
		if err != nil {
			return i, ended(ctx, i, "updated", err)
		}
		if err := tell(w, e, start); err != nil {
			return i, err
		}
	}
}

// updateReasons say what a machine's reasons mean to an operator.
var updateReasons = map[string]string{
	"unclaimed":         "it has no owner yet: it is replaced, not updated",
	"unsigned":          "no key that its owner's claim names has signed the release",
	"unlogged":          "the log and the witnesses of its owner's claim do not vouch for the release",
	"older-epoch":       "the release's epoch is below that of the one it runs",
	"other-machine":     "the release is for another architecture, firmware or Secure Boot keys",
	"no-room":           "its boot disk has no room for the release",
	"unreadable":        "what it fetched is not the release that was offered",
	"not-started":       "the release did not come up",
	"not-enrolled":      "the control plane did not accept the release in time",
	"payload-unhealthy": "the payload was not healthy in time",
	"install-failed":    "the release could not be written beside the one it runs",
	"list-unchanged":    "its firmware did not take the change of Secure Boot's db or dbx, and the machine goes on as it was",
}

// offeredOnly says that of the release that the machine runs there is something on
// offer: a change of Secure Boot's variables.
func offeredOnly(i adminclient.Instance, digest string) bool {
	return i.Release == digest && i.Update != nil && i.Update.Release == digest && i.Update.Step != "done"
}

// updateEnded says whether nothing more comes of the offer, and what came of it.
func updateEnded(i adminclient.Instance, digest string) (over bool, err error) {
	u := i.Update
	switch {
	case i.State == "deleted":
		return true, cli.NotFound(fmt.Errorf("instance %s is deleted", i.ID))
	case i.Release == digest && !offeredOnly(i, digest):
		return true, nil
	case u == nil || u.Release != digest:
		return true, cli.Refused(fmt.Errorf("instance %s is offered another release meanwhile", i.ID))
	case u.Step == "refused":
		return true, cli.Refused(fmt.Errorf("the machine of instance %s refused the release: %s", i.ID, first(updateReasons[u.Reason], u.Reason)))
	case u.Step == "fell-back":
		return true, cli.Hinted(fmt.Errorf("the machine of instance %s is back on the release from before: %s", i.ID, first(updateReasons[u.Reason], u.Reason)),
			"its data is as it was; offering the release again has it tried again")
	case u.Step == adminclient.UpdateTakenBack:
		return true, cli.Refused(fmt.Errorf("the offer to instance %s is taken back", i.ID))
	case i.State == "quarantined":
		return true, cli.Refused(fmt.Errorf("instance %s is quarantined: %s", i.ID, i.Reason))
	case i.State == "failed":
		return true, fmt.Errorf("instance %s has failed: %s", i.ID, i.Reason)
	}
	return false, nil
}

// describeUpdate is the last offer in a line; empty where there was none.
func describeUpdate(u *adminclient.Update) string {
	if u == nil {
		return ""
	}
	text := fmt.Sprintf("%.16s: %s", u.Release, u.Step)
	if u.Reason != "" {
		text += ", " + first(updateReasons[u.Reason], u.Reason)
	}
	return text
}
