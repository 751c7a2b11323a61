package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// mkfs is the one program in the image that is not ours.
const mkfs = "/sbin/mkfs.btrfs"

// A sector that was never written has no tag, and reads as an error. These are
// the ones that mkfs.btrfs looks at before it writes (tried with 6.2): where
// superblocks of any file system may be, and the end.
const (
	probed       = 1 << 20
	secondMirror = 64 << 20
)

// Format makes a btrfs file system on a block device: one that has checksums
// over everything, so that an older sector in the place of a newer one is an
// error. They are SHA-256 ones: whoever chooses what a user stores could else
// choose two contents of the same checksum. Errors are the device's and those
// of mkfs.btrfs, with what it said.
func Format(ctx context.Context, device string) error {
	if err := writeProbed(device); err != nil {
		return fmt.Errorf("readying the data disk: %w", err)
	}
	cmd := exec.CommandContext(ctx, mkfs, "--quiet", "--force", "--nodiscard", "--csum", "sha256",
		"--metadata", "single", "--data", "single", device)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.btrfs: %w: %s", err, out)
	}
	return nil
}

func writeProbed(device string) error {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	zero := make([]byte, probed)
	for _, at := range []int64{0, secondMirror, size - probed} {
		if err == nil && at >= 0 && at+probed <= size {
			_, err = f.WriteAt(zero, at)
		}
	}
	return errors.Join(err, f.Sync(), f.Close())
}
