//go:build failpoints

package failpoint

import (
	"os"
	"strings"
	"sync"
	"syscall"
)

// The environment variable SHED_FAILPOINT holds a point's name, to kill this
// process there, or "plugin:" and a name, to kill the provider plugin there.
const (
	variable     = "SHED_FAILPOINT"
	pluginPrefix = "plugin:"
)

var (
	once   sync.Once
	mu     sync.Mutex
	plugin func() int // guarded by mu
)

// OnPlugin says which process is the plugin; 0 for none.
func OnPlugin(pid func() int) {
	mu.Lock()
	defer mu.Unlock()
	plugin = pid
}

// Here kills, the first time that the chosen point is reached.
func Here(p Point) {
	name, other := strings.CutPrefix(os.Getenv(variable), pluginPrefix)
	if name != string(p) {
		return
	}
	once.Do(func() {
		if !other {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		mu.Lock()
		defer mu.Unlock()
		if plugin == nil {
			return
		}
		if pid := plugin(); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}
