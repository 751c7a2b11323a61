package cgroup

import (
	"slices"
	"testing"
)

// Each limit takes its controller, and what is not limited takes none.
func TestWhatLimitsNeedOfTheKernel(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		want   []string
	}{
		"nothing": {Limits{}, nil}, "weight": {Limits{CPUWeight: 1}, []string{"cpu"}}, "percent": {Limits{CPUPercent: 1}, []string{"cpu"}},
		"io": {Limits{IOWeight: 1}, []string{"io"}}, "memory": {Limits{MemoryBytes: 1}, []string{"memory"}}, "pids": {Limits{Pids: 1}, []string{"pids"}},
	} {
		if got := c.limits.controllers(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
