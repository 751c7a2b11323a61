// Command prober is a payload that tries what a hostile one would and answers
// what came of it. Invariant: it is for tests alone.
package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
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
	if name := os.Getenv("STARVE"); name != "" {
		starve(name)
	}
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
	http.HandleFunc("/starve", func(w http.ResponseWriter, r *http.Request) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"STARVE=" + r.URL.Query().Get("name")}
		fmt.Fprintln(w, cmd.Run())
	})
	http.Serve(l, nil) //nolint:errcheck,gosec // it is killed
}

// starve takes a name and then memory until the kernel ends it, and says so.
func starve(name string) {
	if err := os.WriteFile("/proc/self/comm", []byte(name), 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for kept := [][]byte{}; ; {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		kept = append(kept, b)
	}
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
	disks := []string{"/dev/vda", "/dev/vdb", "/dev/vdc"}
	for _, disk := range append(disks, "/dev/dm-0") {
		_, err := os.Open(disk)
		try(disk, err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	try("glob", err)
	said["processes"] = strings.Join(processes, " ")
	cmdline, err := os.ReadFile("/proc/1/cmdline")
	try("read", err)
	said["cmdline"] = string(cmdline)
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
	// Of the nodes that this machine has, those that open.
	filepath.WalkDir("/dev", func(path string, entry fs.DirEntry, err error) error { //nolint:errcheck // what it cannot see it cannot open
		if err != nil || entry.Type()&fs.ModeDevice == 0 {
			return nil
		}
		for _, flag := range []int{syscall.O_RDONLY, syscall.O_WRONLY} {
			if fd, err := syscall.Open(path, flag|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0); err == nil {
				syscall.Close(fd) //nolint:errcheck // nothing was written
				said["devices"] += " " + filepath.Base(path)
				break
			}
		}
		return nil
	})
	try("data", os.WriteFile(filepath.Join(os.Getenv("SHED_DATA"), "note"), []byte("mine"), 0o600))
	return said
}
