package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/policy"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// policyFile is the policy in the client's directory.
const policyFile = "policy.yaml"

const policyHelp = `
What the client accepts stands in a policy, which --policy or SHED_POLICY names,
or in STATE/client/policy.yaml: shed policy show prints one to begin with. The
flags below make a small one in its place, where there is none.
`

// policyName is the file of the policy, empty where there is none. A policy and
// what the flags say in its place are not mixed: neither would be whole.
func (f *clientFlags) policyName(cmd *cobra.Command, dir string) (string, error) {
	name := first(f.policy, os.Getenv("SHED_POLICY"), existing(filepath.Join(dir, policyFile)))
	if name == "" {
		return "", nil
	}
	for _, flag := range []string{"release-key", "ek-root", "minimum-tier", "log-key", "witness", "witnesses", "cosignature-age"} {
		if cmd.Flags().Changed(flag) {
			return "", bothNamed("--"+flag, name)
		}
	}
	for _, variable := range []string{"SHED_RELEASE_KEY", "SHED_EK_ROOT", "SHED_MINIMUM_TIER", "SHED_LOG_KEY", "SHED_WITNESS"} {
		if os.Getenv(variable) != "" {
			return "", bothNamed(variable, name)
		}
	}
	return name, nil
}

func bothNamed(what, policy string) error {
	return cli.Hinted(cli.Usage(fmt.Errorf("both %s and the policy %s say what is accepted", what, policy)), "write it into the policy, or take the policy away")
}

// accepted is the policy: that of the file, or one that the flags make.
func (f *clientFlags) accepted(cmd *cobra.Command, dir string) (*policy.Policy, error) {
	name, err := f.policyName(cmd, dir)
	if err != nil {
		return nil, err
	}
	if name != "" {
		return readPolicy(name)
	}
	return f.small(dir)
}

// small is the policy that flags, environment and the client's directory make.
func (f *clientFlags) small(dir string) (*policy.Policy, error) {
	p := &policy.Policy{Lifetime: trustLifetime, Verifier: verifier.Policy{EKRevocation: chain.RequiredWhereNamed}}
	key, err := readReleaseKey(first(f.releaseKey, os.Getenv("SHED_RELEASE_KEY"), filepath.Join(dir, "release.pub")))
	if err != nil {
		return nil, err
	}
	p.ReleaseKeys = append(p.ReleaseKeys, key)
	if p.Log, err = f.log.policy(dir); err != nil {
		return nil, err
	}
	roots := f.ekRoots
	if len(roots) == 0 {
		roots = []string{first(os.Getenv("SHED_EK_ROOT"), filepath.Join(dir, "ek-root.pem"))}
	}
	for _, root := range roots {
		read, err := readTrustAnchors(root)
		if err != nil {
			return nil, err
		}
		p.Verifier.TrustAnchors = append(p.Verifier.TrustAnchors, read...)
	}
	tier := first(f.minimumTier, os.Getenv("SHED_MINIMUM_TIER"), "software")
	if err := p.Verifier.Minimum.Identity.UnmarshalText([]byte(tier)); err != nil {
		return nil, cli.Usage(fmt.Errorf("minimum tier: %w", err))
	}
	return p, nil
}

// readPolicy reads a policy and the files beside it that it names.
func readPolicy(name string) (*policy.Policy, error) {
	text, err := readCapped(name, policy.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	p, err := policy.Parse(text, func(file string) ([]byte, error) {
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(name), file)
		}
		return readCapped(file, policy.MaxFile)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// readCapped reads a file of at most limit bytes.
func readCapped(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.NotFound(err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, cli.Refused(fmt.Errorf("%s has more than %d bytes", name, limit))
	}
	return b, nil
}
