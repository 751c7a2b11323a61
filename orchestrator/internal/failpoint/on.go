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
	once       sync.Once
	mu         sync.Mutex
	killPlugin func() // guarded by mu
)

// OnPlugin says how the plugin is killed.
func OnPlugin(kill func()) {
	mu.Lock()
	defer mu.Unlock()
	killPlugin = kill
}

// Here kills, the first time that the chosen point is reached.
func Here(p Point) {
	name, plugin := strings.CutPrefix(os.Getenv(variable), pluginPrefix)
	if name != string(p) {
		return
	}
	once.Do(func() {
		if !plugin {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		mu.Lock()
		defer mu.Unlock()
		if killPlugin != nil {
			killPlugin()
		}
	})
}
