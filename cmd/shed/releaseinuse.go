package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// inUse are the digests of the manifests in the directories and of what the
// control plane's instances run.
func (o *auditOptions) inUse(cmd *cobra.Command) (all []attest.ReleaseDigest, err error) {
	for _, dir := range o.releases {
		found, err := manifestsIn(dir)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	if !o.running {
		return all, nil
	}
	running, err := runningReleases(cmd)
	return append(all, running...), explainAdmin(err)
}

func manifestsIn(dir string) (all []attest.ReleaseDigest, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*", manifestFile))
	if err != nil {
		return nil, cli.Usage(fmt.Errorf("releases in %s: %w", dir, err))
	}
	if own := filepath.Join(dir, manifestFile); existing(own) != "" {
		names = append(names, own)
	}
	if len(names) == 0 {
		return nil, cli.NotFound(fmt.Errorf("no %s in %s", manifestFile, dir))
	}
	for _, name := range names {
		b, err := readCapped(name, release.MaxManifestBytes)
		if err != nil {
			return nil, fmt.Errorf("reading a release in use: %w", err)
		}
		if _, err := release.ParseManifest(b); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		all = append(all, attest.ReleaseDigest(attest.Sum(b)))
	}
	return all, nil
}

func runningReleases(cmd *cobra.Command) (all []attest.ReleaseDigest, err error) {
	c, err := newAdminClient(cmd)
	if err != nil {
		return nil, err
	}
	instances, err := c.Instances(cmd.Context(), false)
	if err != nil {
		return nil, err
	}
	for _, i := range instances {
		if i.Release == "" {
			continue
		}
		digest, err := attest.ParseReleaseDigest(i.Release)
		if err != nil {
			return nil, fmt.Errorf("reading instance %s: %w", i.ID, err)
		}
		if !slices.Contains(all, digest) {
			all = append(all, digest)
		}
	}
	return all, nil
}
