package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/policy"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

func newPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "the file that says what is accepted of a machine",
	}
	cmd.AddCommand(newPolicyCheckCommand(), newPolicyShowCommand())
	return cmd
}

func newPolicyCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "read a policy and the files that it names, and say what it accepts",
		Long: `check reads the policy in FILE and the files that it names, which are looked for
beside it. A key that is unset or unknown is named with its line.

Exits with 4 where the policy is not whole.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			s := summaryOf(p)
			return cli.PrintResult(cmd, s, "%s", s)
		},
	}
}

// policySummary is what a policy comes to.
type policySummary struct {
	ReleaseKeys int          `json:"release_keys"`
	EKRoots     int          `json:"ek_roots"`
	AKRoots     int          `json:"ak_roots"`
	Platforms   []string     `json:"platforms"`
	Minimum     attest.Tiers `json:"minimum"`
	Log         string       `json:"log"`
	Witnesses   int          `json:"witnesses"`
	Quorum      int          `json:"quorum"`
	Labels      []string     `json:"labels"`
	Lifetime    string       `json:"lifetime"`
}

func summaryOf(p *policy.Policy) policySummary {
	s := policySummary{
		ReleaseKeys: len(p.ReleaseKeys), EKRoots: len(p.Verifier.TrustAnchors), AKRoots: len(p.Verifier.AKAnchors), Platforms: []string{},
		Minimum: p.Verifier.Minimum,
		Log:     "none", Witnesses: len(p.Log.Witnesses), Quorum: p.Log.Quorum, Labels: []string{}, Lifetime: p.Lifetime.String(),
	}
	if !p.Log.NotRequired {
		s.Log = p.Log.Log.Name()
	}
	for _, w := range p.Log.Witnesses {
		s.Labels = append(s.Labels, w.Label)
	}
	for _, platform := range []struct {
		name     string
		accepted bool
	}{{"snp", p.Verifier.SNP != nil}, {"tdx", p.Verifier.TDX != nil}, {"nitrotpm", p.Verifier.Nitro != nil}, {"azure", p.Verifier.Azure != nil}} {
		if platform.accepted {
			s.Platforms = append(s.Platforms, platform.name)
		}
	}
	return s
}

func (s policySummary) String() string {
	log := "none: any signed release is accepted"
	if s.Log != "none" {
		log = fmt.Sprintf("%s, cosigned by %d of %d witnesses", s.Log, s.Quorum, s.Witnesses)
	}
	platforms := "none"
	if len(s.Platforms) > 0 {
		platforms = strings.Join(s.Platforms, ", ")
	}
	return fmt.Sprintf("release keys: %d\nendorsement roots: %d\nroots of attestation keys: %d\nhardware reports: %s\nminimum: memory %s, identity %s, storage %s\nlog: %s\nlifetime: %s\nwhole\n",
		s.ReleaseKeys, s.EKRoots, s.AKRoots, platforms, s.Minimum.Memory, s.Minimum.Identity, s.Minimum.Storage, log, s.Lifetime)
}

func newPolicyShowCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "print the client's policy, or one to begin with",
		Long: `show prints STATE/client/policy.yaml as it is, or with --default one of those that
come with shed: strict, which an owner completes with whose releases and which
witnesses they trust, or local, for a machine with an emulated TPM.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := policyText(cmd, name)
			if err != nil {
				return err
			}
			return cli.PrintResult(cmd, map[string]string{"policy": string(text)}, "%s", text)
		},
	}
	cmd.Flags().StringVar(&name, "default", "", "print this one: strict or local")
	return cmd
}

func policyText(cmd *cobra.Command, name string) ([]byte, error) {
	if name != "" {
		text, err := policy.Default(name)
		if err != nil {
			return nil, cli.Usage(err)
		}
		return text, nil
	}
	file := first(os.Getenv("SHED_POLICY"), filepath.Join(cli.StateDir(cmd), "client", policyFile))
	text, err := readCapped(file, policy.MaxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.Hinted(err, "shed policy show --default strict prints one to begin with")
	}
	return text, err
}
