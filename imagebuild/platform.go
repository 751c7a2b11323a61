package imagebuild

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/imagebuild/debian"
	"github.com/toolshed-cloud/shed/imagebuild/kernel"
)

// platform is what an image has of its architecture.
type platform struct {
	// bootFile is what firmware starts where no boot variable says otherwise
	// (UEFI specification 2.10, section 3.5.1.1).
	bootFile string
	// console is the serial port.
	console string
	// kernel is the package of the kernel, and firmware an input's name.
	kernel, firmware string
	// Lists of modules: see root.go.
	modules, network, data, payload, alone []string
}

var platforms = map[string]platform{
	board.AMD64: {
		bootFile: "EFI/BOOT/BOOTX64.EFI", console: "ttyS0",
		kernel: kernel.DefaultPackage, firmware: "ovmf.deb",
		modules: []string{"virtio_blk", "virtio_rng", "button", "evdev"},
		network: []string{"virtio_net"},
		data:    []string{"dm-mod", "dm-integrity", "aegis128", "aegis128-aesni", "dm-crypt", "crc32c-intel", "sha256-ssse3", "btrfs"},
		payload: []string{"dm-mod", "sha256-ssse3", "dm-verity", "erofs"},
		alone:   []string{"sev-guest", "tdx-guest", "ena", "efivarfs"},
	},
	board.ARM64: {
		bootFile: "EFI/BOOT/BOOTAA64.EFI", console: "ttyAMA0",
		kernel: "linux-image-6.12-cloud-arm64", firmware: "aavmf.deb",
		// The TPM's driver is a module here. The processor's own ciphers are
		// part of aegis128, and its checksums of the kernel.
		modules: []string{"tpm_tis", "virtio_pci", "virtio_blk", "virtio_rng", "button", "evdev"},
		network: []string{"virtio_net"},
		data:    []string{"dm-mod", "dm-integrity", "aegis128", "dm-crypt", "btrfs"},
		payload: []string{"dm-mod", "sha2-ce", "dm-verity", "erofs"},
		alone:   []string{"ena", "efivarfs"},
	},
}

// commandLine is fixed in the image. The console is the serial port; a panic
// reboots at once instead of hanging a machine that costs money; nothing but
// signed modules is loaded, and not even root may read or alter the running
// kernel (docs/decisions/0011).
func (p platform) commandLine() string {
	return "console=" + p.console + " quiet loglevel=4 panic=-1 lockdown=confidentiality module.sig_enforce=1"
}

// platform is the one that the image is for.
func (b *builder) platform() platform { return platforms[b.Architecture] }

// model is the board that the release's own firmware is for.
func (b *builder) model() board.Model {
	return board.Model{Architecture: b.Architecture, SecureBoot: b.keys != nil}
}

// foreignPackages are those of which an image for another architecture than the
// host's has files: the stub, mkfs.btrfs, and the libraries that it needs.
var foreignPackages = []string{
	"systemd-boot-efi", "btrfs-progs", "libblkid1", "libc6", "liblzo2-2", "libudev1", "libuuid1", "libzstd1", "zlib1g",
}

// foreignSuite is what they are from, and the kernel.
const foreignSuite = "bookworm"

// fetchForeign unpacks what an arm64 image has of Debian into the cache, where
// nothing else was named. On every host it is the same packages.
func (b *builder) fetchForeign(ctx context.Context) error {
	if b.Architecture != board.ARM64 || b.Stub != "" && b.Mkfs != "" && b.KernelPackage != "" {
		return nil
	}
	if b.Cache == "" {
		return fmt.Errorf("%w: cache is unset, and stub, mkfs or kernel package too", ErrOptions)
	}
	b.Progress("fetch packages")
	packages, err := debian.FetchForeign(ctx, debian.Foreign{
		Suite: foreignSuite, Architecture: b.Architecture, Names: foreignPackages,
		Through: b.platform().kernel, Concrete: kernel.Concrete,
	}, b.Cache)
	if err != nil {
		return fmt.Errorf("fetching packages for %s: %w", b.Architecture, err)
	}
	last := len(packages) - 1
	if b.KernelPackage == "" {
		b.KernelPackage = packages[last].Path
	}
	root, err := debian.Unpack(ctx, packages[:last], b.Cache)
	if err != nil {
		return err
	}
	if b.Stub == "" {
		b.Stub = filepath.Join(root, "usr/lib/systemd/boot/efi/linuxaa64.efi.stub")
		n := slices.IndexFunc(packages, func(p *debian.Package) bool { return p.Name == "systemd-boot-efi" })
		b.StubVersion = majorVersion(packages[n].Version)
	}
	if b.Mkfs == "" {
		b.root, b.Mkfs = root, filepath.Join(root, "usr/bin/mkfs.btrfs")
		if _, err := os.Stat(b.Mkfs); err != nil {
			b.Mkfs = filepath.Join(root, "sbin/mkfs.btrfs")
		}
	}
	return nil
}

var leadingNumber = regexp.MustCompile(`^[0-9]{1,4}`)

// majorVersion is the number that a version begins with; 0 where there is none.
func majorVersion(version string) int {
	n, err := strconv.Atoi(leadingNumber.FindString(version))
	if err != nil {
		return 0
	}
	return n
}
