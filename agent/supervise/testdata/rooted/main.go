// Command rooted is a payload that says what it finds in its root. Invariant: it
// is for tests alone.
package main

import (
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	http.HandleFunc("/found", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(found()) //nolint:errcheck // the test sees what is missing
	})
	http.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/fetch", func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get("http://" + r.URL.Query().Get("from"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		io.Copy(w, resp.Body) //nolint:errcheck // the test sees what is missing
	})
	network, address := "unix", os.Getenv("SHED_SOCKET")
	if port := os.Getenv("SHED_PORT"); port != "" {
		network, address = "tcp", "127.0.0.1:"+port
	}
	l, err := net.Listen(network, address)
	if err != nil {
		os.Stderr.WriteString(err.Error()) //nolint:errcheck // nowhere to say so
		os.Exit(1)
	}
	http.Serve(l, nil) //nolint:errcheck,gosec // it is killed
}

func names(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func found() map[string]string {
	said := map[string]string{"arguments": strings.Join(os.Args, " "), "root": names("/"), "dev": names("/dev"), "machine": names("/../../machine")}
	said["directory"], _ = os.Getwd() //nolint:errcheck // the test sees what is missing
	for _, dir := range []string{"/", "/bin", "/dev", "/dev/shm"} {
		said["write "+dir] = text(os.WriteFile(filepath.Join(dir, "note"), []byte("x"), 0o600))
	}
	processes, _ := filepath.Glob("/proc/[0-9]*") //nolint:errcheck // the test sees what is missing
	said["processes"] = strings.Join(processes, " ")
	said["execute"] = text(syscall.Exec(os.Getenv("SHED_DATA")+"/program", []string{"program"}, nil))
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil && files.Max == files.Cur && files.Cur == 99 {
		said["files"] = "99"
	}
	filepath.WalkDir("/dev", func(path string, entry fs.DirEntry, err error) error { //nolint:errcheck // what it cannot see it cannot open
		if err == nil && entry.Type()&fs.ModeDevice != 0 {
			if _, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
				said["devices"] += " " + entry.Name()
			}
		}
		return nil
	})
	group, _ := os.ReadFile("/proc/self/cgroup") //nolint:errcheck // the test sees what is missing
	said["group"] = string(group)
	return said
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
