package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

func newProviderCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "provider",
		Short: "list, test, sign and install providers",
	}
	adminFlags(cmd)
	cmd.AddCommand(newProviderListCommand(),
		newPart("test", "shed-serve", "run the conformance suite against a provider plugin"),
		newPart("install", "shed-serve", "install a signed provider plugin"),
		newPart("sign", "shed-image", "sign a provider plugin for others to install"))
	return cmd
}

func newProviderListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list the providers that make machines",
		Args:  cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, _ []string) error {
			all, err := c.Providers(cmd.Context())
			if err != nil {
				return err
			}
			if cli.WantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(adminclient.Providers{Providers: all})
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "PROVIDER\tVERSION\tCAPABILITIES\tNOTES")
			for _, p := range all {
				name := p.Name
				if p.Default {
					name += " (default)"
				}
				notes := strings.Join(p.Notes, "; ")
				if p.Problem != "" {
					notes = p.Problem
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, p.Version, strings.Join(p.Capabilities, ","), notes)
			}
			return t.Flush()
		}),
	}
}

const offeringsLong = `offerings lists the places and sizes that machines can be had at, with how many
more the quota allows and the price, as the configured providers tell them.
instance.places and plans in the configuration choose among them.`

func newOfferingsCommand() *cobra.Command {
	var provider, region string
	cmd := &cobra.Command{
		Use:   "offerings",
		Short: "list places, sizes, prices and quota",
		Long:  offeringsLong,
		Args:  cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, _ []string) error {
			all, err := c.Offerings(cmd.Context())
			if err != nil {
				return err
			}
			chosen := adminclient.Offerings{Offerings: []adminclient.Offering{}, Problems: all.Problems}
			for _, o := range all.Offerings {
				if (provider == "" || o.Provider == provider) && (region == "" || o.Region == region) {
					chosen.Offerings = append(chosen.Offerings, o)
				}
			}
			if cli.WantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(chosen)
			}
			return printOfferings(cmd, chosen)
		}),
	}
	adminFlags(cmd)
	cmd.Flags().StringVar(&provider, "provider", "", "only this provider's")
	cmd.Flags().StringVar(&region, "region", "", "only in this region")
	return cmd
}

func printOfferings(cmd *cobra.Command, all adminclient.Offerings) error {
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROVIDER\tREGION\tSIZE\tVCPUS\tMEMORY\tCONFIDENTIAL\tLEFT\tPRICE AN HOUR")
	for _, o := range all.Offerings {
		left := "?"
		if o.Available >= 0 {
			left = fmt.Sprint(o.Available)
		}
		confidential := o.Confidential
		if confidential == "" {
			confidential = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%.4g GiB\t%s\t%s\t%s\n", o.Provider, o.Region, o.Size, o.VCPUs,
			float64(o.MemoryBytes)/(1<<30), confidential, left, price(o))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for name, problem := range all.Problems {
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "shed: provider %s does not say what it offers: %s\n", name, problem); err != nil {
			return err
		}
	}
	return nil
}

func price(o adminclient.Offering) string {
	if o.MicrosPerHour == 0 {
		return "-"
	}
	text := fmt.Sprintf("%.4f %s", float64(o.MicrosPerHour)/1e6, o.Currency)
	if !o.PricedAt.IsZero() {
		text += " (" + o.PricedAt.Format(time.DateOnly) + ")"
	}
	return text
}
