package functions_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/functions"
	"github.com/toolshed-cloud/shed/toolshed/functions/functionstest"
	"github.com/toolshed-cloud/shed/toolshed/functions/sandbox"
)

// said writes to the log how it was called, and fails where the message says so.
const said = `package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	b, _ := io.ReadAll(os.Stdin)
	fmt.Fprint(os.Stderr, os.Getenv("SHED_TRIGGER"), " ", os.Getenv("SHED_TIME"), os.Getenv("SHED_QUEUE"), " ", os.Getenv("SHED_MESSAGE"), " ", string(b))
	if string(b) == "fail" {
		os.Exit(1)
	}
}
`

// minutes is a Scheduler of given minutes.
type minutes []time.Time

func (m minutes) Each(_ context.Context, run func(time.Time)) {
	for _, one := range m {
		run(one)
	}
}

func service(t *testing.T, folder string) *functions.Service {
	t.Helper()
	s, closeAll, err := functionstest.Service(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeAll(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func saying(t *testing.T) *functions.Service {
	t.Helper()
	module, err := functionstest.Build(t.Context(), t.TempDir(), said)
	if err != nil {
		t.Fatal(err)
	}
	s := service(t, t.TempDir())
	if _, _, err := s.Deploy(t.Context(), "said", module); err != nil {
		t.Fatal(err)
	}
	return s
}

func logged(t *testing.T, s *functions.Service) (texts []string) {
	t.Helper()
	entries, err := s.Logs(t.Context(), "said", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		texts = append(texts, e.Text)
	}
	return texts
}

// A schedule runs in its minutes and in no other.
func TestSchedule(t *testing.T) {
	s := saying(t)
	if err := s.Set(t.Context(), "said", functions.Settings{Schedule: "30 4 * * *"}); err != nil {
		t.Fatal(err)
	}
	at := func(hour, minute int) time.Time { return time.Date(2027, 3, 1, hour, minute, 0, 0, time.UTC) }
	s.Schedule(t.Context(), minutes{at(4, 29), at(4, 30), at(4, 31), at(16, 30)})
	if got := logged(t, s); len(got) != 1 || got[0] != "schedule 2027-03-01T04:30:00Z  " {
		t.Errorf("%q", got)
	}
}

// Minutes are whole ones, each once.
func TestMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var got []time.Time
		functions.Minutes{Now: time.Now}.Each(ctx, func(m time.Time) {
			if got = append(got, m); len(got) == 3 {
				cancel()
			}
		})
		for i, m := range got {
			if m.Second() != 0 || i > 0 && m.Sub(got[i-1]) != time.Minute {
				t.Errorf("minutes %v", got)
			}
		}
	})
}

// A clock that goes slower than timers has no minute run twice, and one that is
// set forward none long after it was.
func TestMinutesOfAClockThatIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		jump := time.Duration(0)
		now := func() time.Time {
			passed := time.Since(began)
			return began.Add(passed - passed/1000 + jump)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var got []time.Time
		functions.Minutes{Now: now}.Each(ctx, func(m time.Time) {
			if late := now().Sub(m); late < 0 || late >= time.Minute {
				t.Errorf("%s runs %s late", m, late)
			}
			if slices.ContainsFunc(got, m.Equal) {
				t.Errorf("%s runs twice", m)
			}
			switch got = append(got, m); len(got) {
			case 3:
				time.AfterFunc(30*time.Second, func() { jump = 10 * time.Hour })
			case 6:
				cancel()
			}
		})
	})
}

// A message goes to the functions of its queue, whose failure is answered.
func TestDeliver(t *testing.T) {
	s := saying(t)
	if err := s.Set(t.Context(), "said", functions.Settings{Queue: "mail"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Deliver(t.Context(), "mail", "m1", []byte("hello")); err != nil {
		t.Error(err)
	}
	if err := s.Deliver(t.Context(), "other", "m2", []byte("hello")); err != nil {
		t.Error(err)
	}
	if err := s.Deliver(t.Context(), "mail", "m3", []byte("fail")); !errors.Is(err, sandbox.ErrFailed) {
		t.Errorf("%v", err)
	}
	if got := logged(t, s); strings.Join(got, "|") != "queue mail m1 hello|queue mail m3 fail" {
		t.Errorf("%q", got)
	}
	if names, err := s.Queues(t.Context()); err != nil || len(names) != 1 || names[0] != "mail" {
		t.Errorf("%v, %v", names, err)
	}
}

// Many calls at once, while versions come and go: none fails but for being one
// too many, and each is accounted.
func TestCallsWhileDeploying(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles and measures for seconds")
	}
	s := saying(t)
	module, err := functionstest.Build(t.Context(), t.TempDir(), said)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	called := 0
	for range 6 {
		all.Go(func() {
			for range 20 {
				_, err := s.Invoke(t.Context(), "said", functions.TriggerHTTP, nil, nil)
				if err != nil && !errors.Is(err, functions.ErrBusy) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					called++
					mu.Unlock()
				}
			}
		})
	}
	for n := range 3 {
		// A custom section makes another module of it.
		if _, isNew, err := s.Deploy(t.Context(), "said", append(module, 0, 3, 1, 'x', byte(n))); err != nil || !isNew {
			t.Errorf("%t, %v", isNew, err)
		}
	}
	all.Wait()
	if got := logged(t, s); len(got) != min(called, 100) || called == 0 {
		t.Errorf("%d in the log, %d called", len(got), called)
	}
}
