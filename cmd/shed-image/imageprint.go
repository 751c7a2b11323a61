package main

import (
	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// builtImage is what `image build --json` prints.
type builtImage struct {
	Output     string               `json:"output"`
	Release    attest.ReleaseDigest `json:"release"`
	Version    string               `json:"version"`
	Epoch      uint64               `json:"epoch"`
	DiskBytes  int64                `json:"disk_bytes"`
	ImageBytes int64                `json:"image_bytes"`
}

func printImage(cmd *cobra.Command, output string, m *release.Manifest, encoded []byte) error {
	built := builtImage{
		Output:     output,
		Release:    attest.ReleaseDigest(attest.Sum(encoded)),
		Version:    m.Version,
		Epoch:      m.Epoch,
		DiskBytes:  m.Disk.Bytes,
		ImageBytes: m.UKI.Bytes,
	}
	return cli.PrintResult(cmd, built, "release %s\nversion %s, epoch %d, image of %d bytes in %s\n",
		built.Release, built.Version, built.Epoch, built.ImageBytes, built.Output)
}
