package imagebuild_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/toolshed-cloud/shed/attest/payload"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
)

// toolshedOf is a file of a size that a toolshed has, another for each seed.
func toolshedOf(t *testing.T, seed byte) string {
	t.Helper()
	b := make([]byte, 9<<20)
	rand.NewChaCha8([32]byte{seed}).Read(b) //nolint:errcheck // it has no errors
	name := filepath.Join(t.TempDir(), "toolshed")
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// onBootDisk is a release whose toolshed is too large for the image, archived.
func onBootDisk(t *testing.T) (imagebuild.Options, *release.Manifest) {
	t.Helper()
	o := sampleOptions(t)
	o.Archive, o.Toolshed = filepath.Join(t.TempDir(), "archive"), toolshedOf(t, 1)
	return o, built(t, o)
}

// A toolshed on the boot disk is the toolshed still: nothing of it is in the image,
// it is made again from the program alone, and what differs is traced to that.
func TestToolshedOnTheBootDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	o, m := onBootDisk(t)
	if m.OtherPayload() != nil || m.Payload == nil || m.Payload.Root == nil || !slices.Equal(m.Payload.Command, payload.Toolshed().Command) {
		t.Fatalf("the manifest declares %+v", m.Payload)
	}
	if slices.ContainsFunc(m.Inputs, func(in release.Input) bool { return in.Name == "payload.tar" }) {
		t.Error("the manifest names files beside the program")
	}
	checkOnDisk(t, o.Output, contentOf(t, filepath.Join(o.Output, imagebuild.UKIName)), m.Payload.Root)
	if r := mustRebuild(t, o.Output, o.Archive); !r.Same {
		t.Errorf("rebuilt with differences %+v", r.Differences)
	}
	disk, file := contentOf(t, filepath.Join(o.Output, imagebuild.DiskName)), contentOf(t, filepath.Join(o.Output, imagebuild.PayloadName))
	offset := int64(bytes.Index(disk, file[:8<<10])) + 1<<20
	flip(t, filepath.Join(o.Output, imagebuild.DiskName), offset)
	d := find(t, mustRebuild(t, o.Output, o.Archive), imagebuild.DiskName, "the payload's root")
	if d.Input != "bin/toolshed" || d.Offset != offset {
		t.Errorf("%+v", d)
	}
}

func TestRebuildFindsAnotherToolshedOnTheBootDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	o, m := onBootDisk(t)
	other := o
	other.Output, other.Toolshed = t.TempDir(), toolshedOf(t, 2)
	built(t, other)
	change(t, other.Output, func(lie *release.Manifest) { lie.Inputs = m.Inputs })
	r := mustRebuild(t, other.Output, o.Archive)
	for file, where := range map[string]string{
		imagebuild.UKIName: "section .cmdline", imagebuild.DiskName: "the image, section .cmdline", imagebuild.PayloadName: "the payload's root",
	} {
		if d := find(t, r, file, where); d.Input != "bin/toolshed" {
			t.Errorf("%+v", d)
		}
	}
}
