// Command prober is a payload that tries what a hostile one would and answers
// what came of it. Invariant: it is for tests alone.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Canary is what the payload prints, exitStatus what it ends with: the owner
// sees both, and nobody else does.
const (
	Canary     = "the-owners-diary"
	exitStatus = 73
)

func main() {
	l, err := net.Listen("unix", os.Getenv("SHED_SOCKET"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	http.HandleFunc("/api/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/probe", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(probe()) //nolint:errcheck // the test sees what is missing
	})
	http.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) {
		fmt.Println(Canary)
		fmt.Fprintln(os.Stderr, Canary)
		os.Exit(exitStatus)
	})
	http.Serve(l, nil) //nolint:errcheck,gosec // it is killed
}

// probe answers, for each thing tried, "" where it worked and otherwise why
// not.
func probe() map[string]string {
	said := map[string]string{"uid": fmt.Sprint(os.Getuid())}
	try := func(name string, err error) {
		said[name] = ""
		if err != nil {
			said[name] = err.Error()
		}
	}
	for _, device := range []string{"/dev/tpm0", "/dev/tpmrm0", "/dev/mem", "/dev/mapper/control", "/dev/console"} {
		_, err := os.OpenFile(device, os.O_RDWR, 0)
		try(device, err)
	}
	disks, err := filepath.Glob("/dev/vd*")
	try("glob", err)
	for _, disk := range append(disks, "/dev/dm-0") {
		_, err := os.Open(disk)
		try(disk, err)
	}
	_, err = os.ReadFile("/proc/1/environ")
	try("/proc/1/environ", err)
	_, err = os.ReadFile("/proc/1/cmdline")
	try("/proc/1/cmdline", err)
	try("/init", os.WriteFile("/init", nil, 0o600))
	try("mount", syscall.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
	try("setuid", syscall.Setuid(0))
	_, err = net.DialTimeout("tcp", "10.0.2.2:1", time.Second)
	try("dial", err)
	interfaces, err := net.Interfaces()
	try("interfaces", err)
	var names []string
	for _, i := range interfaces {
		if i.Flags&net.FlagUp != 0 {
			names = append(names, i.Name)
		}
	}
	said["up"] = strings.Join(names, " ")
	try("data", os.WriteFile(filepath.Join(os.Getenv("SHED_DATA"), "note"), []byte("mine"), 0o600))
	return said
}
