// Command guest is the machine whose power is cut: as PID 1 it fills a data
// volume as a toolshed does, or says what volumes hold after a cut. It also makes
// and opens volumes of any size, and says how large they are and how long that
// took.
//
// Invariants: the number of what was acknowledged goes to the disk itself, by no
// flush of its own, so that the log has it in its place; each line that it
// prints begins with a word in capitals, for the test to look for.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/seal"
)

const (
	disk = "/dev/vda"
	// data is where the volume is mounted.
	data    = "/data"
	modules = "/etc/shed/modules"
)

// testKey is no secret: the disk is a test's.
var testKey = []byte("a key of tests..")

func main() {
	fmt.Println("FINISHED", run())
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("FAILED", err)
	}
}

func run() error {
	if err := boot.Mount(); err != nil {
		return err
	}
	for _, list := range []string{modules, modules + ".data"} {
		if err := boot.LoadModules(list); err != nil {
			return err
		}
	}
	words, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for word := range strings.FieldsSeq(string(words)) {
		task, number, _ := strings.Cut(strings.TrimPrefix(word, "powercut."), "=")
		n, err := strconv.Atoi(number)
		switch {
		case !strings.HasPrefix(word, "powercut."):
		case err != nil:
			return fmt.Errorf("%s: %w", word, err)
		case task == "record":
			return record(context.Background(), n)
		case task == "check":
			return check(context.Background(), n)
		case task == "make":
			return makeVolume(context.Background())
		case task == "open":
			return openVolume()
		}
	}
	return fmt.Errorf("the command line %q names no task", words)
}

func volume() *seal.DMCrypt { return &seal.DMCrypt{Name: "data"} }

func mountPoint() boot.DataMount { return boot.DataMount{Path: data, Volume: "/run/volume"} }
