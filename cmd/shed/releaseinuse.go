package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logaudit"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// inUse adds the manifests in the directories and what the control plane's instances
// run.
func (o *auditOptions) inUse(cmd *cobra.Command, p *logaudit.Policy) error {
	p.Stated = map[attest.ReleaseDigest]logentry.Release{}
	for _, dir := range o.releases {
		found, err := manifestsIn(dir)
		if err != nil {
			return err
		}
		for _, stated := range found {
			p.InUse, p.Stated[stated.Manifest] = append(p.InUse, stated.Manifest), stated
		}
	}
	if !o.running {
		return nil
	}
	running, err := runningReleases(cmd)
	p.InUse = append(p.InUse, running...)
	return explainAdmin(err)
}

// manifestsIn is what a log has to say of the manifests in a directory.
func manifestsIn(dir string) (all []logentry.Release, err error) {
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
		m, err := release.ParseManifest(b)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		all = append(all, release.EntryOf(m, attest.ReleaseDigest(attest.Sum(b))))
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
