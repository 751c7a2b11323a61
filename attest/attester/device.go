package attester

import (
	"fmt"
	"io"
	"os"

	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/sys/unix"
)

// OpenDevice opens a TPM's character device, such as /dev/tpm0. The file is
// blocking, so that a command's answer is ready once its write returns. Errors
// are the file system's.
func OpenDevice(path string) (transport.TPM, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening tpm %s: %w", path, err)
	}
	return Transport(os.NewFile(uintptr(fd), path)), nil
}

// Transport speaks to a TPM through a blocking file. go-tpm polls a file by
// itself and fails where a signal interrupts that, the runtime's own for
// preemption too; the answer then stays unread, and the kernel refuses every
// further command. What is not seen to be a file it reads, and os.File reads
// on after a signal.
func Transport(f *os.File) transport.TPM {
	return transport.FromReadWriter(struct{ io.ReadWriter }{f})
}
