package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/attester"
)

// manufacture makes a TPM without an endorsement certificate, and answers its
// endorsement key, as EC2 would name it.
func manufacture(dir string) (key []byte, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	out, err := exec.Command("swtpm_setup", "--tpm2", "--tpm-state", "dir://"+dir, "--pcr-banks", "sha256,sha384").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("swtpm_setup: %w: %s", err, out)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "tpm"), os.NewFile(uintptr(pair[1]), "swtpm")
	defer theirs.Close() //nolint:errcheck // the TPM has its own
	swtpm := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--fd", "3", "--flags", "startup-clear,not-need-init")
	swtpm.ExtraFiles = []*os.File{theirs}
	if err := swtpm.Start(); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	device := attester.Transport(ours)
	t, err := attester.Open(device)
	if err == nil {
		key = t.EKPublic()
		_, err = tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(device)
	}
	err = errors.Join(err, ours.Close())
	swtpm.Process.Kill() //nolint:errcheck // it may have ended with its connection
	swtpm.Wait()         //nolint:errcheck // it was killed
	return key, err
}
