package ear

import (
	"runtime/debug"
	"strings"
)

// ThisBuild names the program that runs, for Issuer.Build: its path, version
// and the commit that it was built from, as far as the build noted them.
func ThisBuild() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	words := []string{info.Path, info.Main.Version}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			words = append(words, s.Value)
		}
	}
	return strings.TrimSpace(strings.Join(words, " "))
}
