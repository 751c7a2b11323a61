package plugin

import (
	"runtime"
	"testing"
)

func TestWidthFollowsBulkWork(t *testing.T) {
	if runtime.NumCPU() == 1 {
		t.Skip("one processor cannot be told from all of them")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	runtime.SetDefaultGOMAXPROCS()
	wide := runtime.GOMAXPROCS(0)
	t.Setenv("GOMAXPROCS", "")
	is := func(when string, want int) {
		t.Helper()
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("%d processors %s, want %d", got, when, want)
		}
	}
	w := newWidth()
	is("at first", 1)
	one, two := w.widen(), w.widen()
	is("during bulk work", wide)
	one()
	is("while some is left", wide)
	two()
	is("after it", 1)
}

func TestWidthIsTheEnvironmentsToSay(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Setenv("GOMAXPROCS", "2")
	w := newWidth()
	w.widen()()
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("%d processors, were %d", got, before)
	}
}
