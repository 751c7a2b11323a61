package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

const releaseOfferLong = `offer offers a release to the machines of many instances, and says what each call
came to; shed instance update offers one to one, and waits for how it ends.
RELEASE is a release's digest, or a beginning of it that no other has. --all leaves
out the instances that have no machine: they get one of the default release.
` + offerHelp + `

Exits with 4 where an instance could not be offered it; the others were.`

// offers are what became of offering one release.
type offers struct {
	Release   string        `json:"release"`
	Instances []offerResult `json:"instances"`
}

// offerResult is "offered", "runs-it" or "refused", and where the machine is with
// what it was offered.
type offerResult struct {
	Instance string `json:"instance"`
	UserID   string `json:"user_id,omitempty"`
	Result   string `json:"result"`
	Step     string `json:"step,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

func newReleaseOfferCommand() *cobra.Command {
	var names []string
	var all bool
	cmd := &cobra.Command{
		Use:   "offer RELEASE (--instance INSTANCE ... | --all)",
		Short: "offer a release to the machines of instances, which run others",
		Long:  releaseOfferLong,
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			if all == (len(names) > 0) {
				return cli.Usage(errors.New("want --instance or --all"))
			}
			r, err := c.FindRelease(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			to, err := instancesNamed(cmd, c, names)
			if err != nil {
				return err
			}
			return offerTo(cmd, c, r.Digest, to)
		}),
	}
	cmd.Flags().StringArrayVar(&names, "instance", nil, "an instance's user, id, or beginning of its id; repeatable")
	cmd.Flags().BoolVar(&all, "all", false, "every instance that has a machine")
	return cmd
}

// instancesNamed are those with these names, or all that have a machine.
func instancesNamed(cmd *cobra.Command, c *adminclient.Client, names []string) (to []adminclient.Instance, err error) {
	for _, name := range names {
		i, err := c.Find(cmd.Context(), name)
		if err != nil {
			return nil, err
		}
		to = append(to, i)
	}
	if len(names) > 0 {
		return to, nil
	}
	all, err := c.Instances(cmd.Context(), false)
	for _, i := range all {
		if i.Machine != "" && i.Desired == "present" {
			to = append(to, i)
		}
	}
	return to, err
}

// offerTo goes on behind a refusal: it is one instance's.
func offerTo(cmd *cobra.Command, c *adminclient.Client, digest string, to []adminclient.Instance) error {
	found := offers{Release: digest, Instances: []offerResult{}}
	refused := 0
	for _, i := range to {
		result := offerResult{Instance: i.ID, UserID: i.UserID, Result: "offered"}
		now, err := c.Offer(cmd.Context(), i.ID, digest)
		var refusal *adminclient.Error
		switch {
		case errors.As(err, &refusal) && refusal.Code != "" && refusal.Status < 500:
			result.Result, result.Detail = "refused", refusal.Detail
			refused++
		case err != nil:
			return err
		case now.Release == digest:
			result.Result = "runs-it"
		case now.Update != nil:
			result.Step = now.Update.Step
		}
		found.Instances = append(found.Instances, result)
	}
	if err := found.show(cmd); err != nil {
		return err
	}
	if refused > 0 {
		return cli.Refused(fmt.Errorf("%d of %d instances could not be offered the release", refused, len(to)))
	}
	return nil
}

func (o offers) show(cmd *cobra.Command) error {
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(o)
	}
	return o.tabulate(cmd.OutOrStdout())
}

func (o offers) tabulate(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "INSTANCE\tUSER\tRESULT\tSTEP OR REASON")
	for _, r := range o.Instances {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Instance, r.UserID, r.Result, first(r.Detail, r.Step))
	}
	return t.Flush()
}
