// Package sparql reads queries in a subset of SPARQL 1.1: SELECT and ASK.
//
// Invariants: reading needs nothing but the text; what is read has bounded
// size, depth and number of variables; a query outside of the subset is refused
// by the name of what it uses and where that stands, and never answered as if
// it were another (docs/toolshed/profile.md has the subset).
package sparql

import (
	"fmt"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// The bounds of a query.
const (
	MaxBytes     = 32 << 10
	MaxDepth     = 32
	MaxVariables = 64
	MaxTriples   = 256
	MaxRows      = 1000
)

// Error is why a query is not taken.
type Error struct {
	Line, Column int
	// Unsupported says that SPARQL has it and this subset has not.
	Unsupported bool
	Text        string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Text
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Text)
}

func wrong(line, column int, format string, args ...any) error {
	return &Error{Line: line, Column: column, Text: fmt.Sprintf(format, args...)}
}

// Query is one that was read.
type Query struct {
	// Ask asks whether there is a solution, and Select is empty.
	Ask      bool
	Distinct bool
	Select   []Selection
	Where    Group
	// Grouped says that solutions are grouped, by nothing where GroupBy is empty.
	Grouped bool
	GroupBy []Selection
	Having  []Expression
	OrderBy []Order
	// Limit is negative for none.
	Limit, Offset int
	// Values stands behind everything else; nil for none.
	Values *Values
}

// Selection is a variable, or an expression that becomes one. A grouping by an
// expression may have no name.
type Selection struct {
	Name string
	// As is nil for the variable itself.
	As Expression
}

// Order is one of the things that solutions are ordered by.
type Order struct {
	By         Expression
	Descending bool
}

// Element is a part of a group.
type Element interface{ element() }

// Group is parts that hold together.
type Group struct{ Elements []Element }

// The parts of a group.
type (
	// Triples are patterns beside each other.
	Triples struct{ Patterns []Pattern }
	// Optional may hold.
	Optional struct{ Group Group }
	// Union is any of several.
	Union struct{ Groups []Group }
	// Minus must not hold.
	Minus struct{ Group Group }
	// Filter must be true.
	Filter struct{ By Expression }
	// Bind names a value.
	Bind struct {
		Name string
		As   Expression
	}
	// Values are solutions by themselves; the zero term is UNDEF.
	Values struct {
		Names []string
		Rows  [][]rdf.Term
	}
	// Subquery is a SELECT in a group.
	Subquery struct{ Query *Query }
)

func (Group) element()     {}
func (Triples) element()   {}
func (Optional) element()  {}
func (Union) element()     {}
func (Minus) element()     {}
func (Filter) element()    {}
func (Bind) element()      {}
func (*Values) element()   {}
func (*Subquery) element() {}

// Node is a variable or a term.
type Node struct {
	// Name is a variable's. One that begins with _: is a blank node's, which no
	// query can select.
	Name string
	Term rdf.Term
}

// Pattern is a triple with variables. Path is nil where Predicate counts.
type Pattern struct {
	Subject, Predicate, Object Node
	Path                       Path
}

// Path is a way from node to node.
type Path interface{ path() }

// The kinds of paths.
type (
	// Link is one predicate.
	Link struct{ Predicate string }
	// Inverse goes a path backwards.
	Inverse struct{ Path Path }
	// Sequence goes one path and then the other.
	Sequence struct{ First, Then Path }
	// Alternative goes either.
	Alternative struct{ Either, Or Path }
	// Repeat goes a path again and again, where Many says so, or not at all,
	// where None says so.
	Repeat struct {
		Path       Path
		None, Many bool
	}
	// Negated goes any predicate but some, forwards or backwards.
	Negated struct {
		Forwards, Backwards []string
		// Ahead and Back say which ways are gone.
		Ahead, Back bool
	}
)

func (Link) path()        {}
func (Inverse) path()     {}
func (Sequence) path()    {}
func (Alternative) path() {}
func (Repeat) path()      {}
func (Negated) path()     {}

// Expression is something that has a value.
type Expression interface{ expression() }

// The kinds of expressions.
type (
	// Variable is what a variable is bound to.
	Variable struct{ Name string }
	// Constant is a term.
	Constant struct{ Term rdf.Term }
	// Call is an operator or a function, by its name in upper case or its IRI.
	Call struct {
		Name string
		Args []Expression
	}
	// Exists reports whether a group holds.
	Exists struct {
		Group Group
		Not   bool
	}
	// Aggregate is over all solutions of a group. Arg is nil for *.
	Aggregate struct {
		Name      string
		Distinct  bool
		Arg       Expression
		Separator string
	}
)

func (Variable) expression()   {}
func (Constant) expression()   {}
func (Call) expression()       {}
func (Exists) expression()     {}
func (*Aggregate) expression() {}
