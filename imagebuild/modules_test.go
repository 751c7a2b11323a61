package imagebuild_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/initrd"
	"github.com/toolshed-cloud/shed/imagebuild/kernel"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// Each list of modules that the agent asks for is in the image.
func TestListsOfModules(t *testing.T) {
	o := sampleOptions(t)
	built(t, o)
	image, err := os.ReadFile(filepath.Join(o.Output, imagebuild.UKIName))
	if err != nil {
		t.Fatal(err)
	}
	sections, err := uki.Sections(image)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := initrd.Unpack(bytes.NewReader(sections[".initrd"]))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"", ".network", ".data", ".sev-guest", ".tdx-guest", ".ena", ".efivarfs"} {
		if entries["etc/shed/modules"+list] == "" {
			t.Errorf("there is no list %q", list)
		}
	}
}

// Of a kernel that lacks a driver no image is made.
func TestKernelWithoutADriver(t *testing.T) {
	o := sampleOptions(t)
	for _, driver := range []string{"virtio_blk", "virtio_net", "dm-crypt", "ena"} {
		o.KernelPackage = standInKernel(t, driver)
		if _, err := imagebuild.Build(t.Context(), o); !errors.Is(err, kernel.ErrPackage) {
			t.Errorf("without %s: %v", driver, err)
		}
	}
}
