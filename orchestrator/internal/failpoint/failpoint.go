// Package failpoint names the places at which a crash is most awkward.
//
// Invariants: a normal build does nothing at any of them and reads no
// environment; only a build with the tag failpoints can kill.
package failpoint

// Point is one such place.
type Point string

// The points, in the order in which a signup passes them.
const (
	AfterInboxCommit              Point = "after-inbox-commit"
	AfterCreateBeforeRecord       Point = "after-create-before-record"
	WhileBooting                  Point = "while-booting"
	BetweenChallengeAndActivation Point = "between-challenge-and-activation"
	BeforeReady                   Point = "before-ready"
)

// Points lists them all.
var Points = [...]Point{
	AfterInboxCommit, AfterCreateBeforeRecord, WhileBooting, BetweenChallengeAndActivation, BeforeReady,
}

// Trap is called at a point. Production passes Here; a test may pass what ends
// the goroutine instead of the process.
type Trap func(Point)
