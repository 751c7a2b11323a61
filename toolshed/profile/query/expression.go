package query

import (
	"errors"
	"slices"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// env is where an expression is evaluated.
type env struct {
	x   *run
	row []rdf.Term
	// visible are the variables that the expression may see.
	visible set
}

// expression answers its value, errValue for none, or what ends the query.
type expression func(env) (rdf.Term, error)

// condition is an expression with the variables that it uses.
type condition struct {
	eval expression
	uses set
}

// value is the zero term where there is none.
func (c *condition) value(x *run, row []rdf.Term, visible set) (rdf.Term, error) {
	t, err := c.eval(env{x, row, visible | x.outer})
	if errors.Is(err, errValue) {
		return rdf.Term{}, nil
	}
	return t, err
}

func (c *condition) holds(x *run, row []rdf.Term, visible set) (bool, error) {
	if err := x.step(); err != nil {
		return false, err
	}
	t, err := c.eval(env{x, row, visible | x.outer})
	var ok bool
	if err == nil {
		ok, err = truth(t)
	}
	if errors.Is(err, errValue) {
		return false, nil
	}
	return ok, err
}

// condition compiles an expression.
func (c *compiler) condition(e sparql.Expression) *condition {
	done := &condition{}
	done.eval = c.expression(e, &done.uses)
	return done
}

func (c *compiler) expression(e sparql.Expression, uses *set) expression {
	switch e := e.(type) {
	case sparql.Constant:
		return func(env) (rdf.Term, error) { return e.Term, nil }
	case sparql.Variable:
		slot := c.slot(e.Name)
		*uses |= 1 << slot
		return seen(slot)
	case *sparql.Aggregate:
		// Its value stands in a slot of its own.
		slot := c.aggregate(e)
		*uses |= 1 << slot
		return seen(slot)
	case sparql.Exists:
		n := c.group(e.Group)
		*uses |= n.vars()
		return exists(n, e.Not)
	case sparql.Call:
		return c.call(e, uses)
	}
	return func(env) (rdf.Term, error) { return rdf.Term{}, errValue }
}

func seen(slot int) expression {
	return func(v env) (rdf.Term, error) {
		if !v.visible.has(slot) || v.row[slot].Kind == rdf.None {
			return rdf.Term{}, errValue
		}
		return v.row[slot], nil
	}
}

func exists(n node, not bool) expression {
	return func(v env) (rdf.Term, error) {
		found := false
		err := only(v.row, v.visible, func() error {
			before := v.x.outer
			defer func() { v.x.outer = before }()
			v.x.outer |= bound(v.row)
			return joined(n, v.x, v.row, func([]rdf.Term) error { found = true; return errEnough })
		})
		if err != nil && !errors.Is(err, errEnough) {
			return rdf.Term{}, err
		}
		return boolean(found != not), nil
	}
}

func (c *compiler) call(e sparql.Call, uses *set) expression {
	var args []expression
	for _, a := range e.Args {
		args = append(args, c.expression(a, uses))
	}
	switch e.Name {
	case "||":
		return either(args[0], args[1], true)
	case "&&":
		return either(args[0], args[1], false)
	case "IN":
		return in(args[0], args[1:])
	case "COALESCE":
		return coalesce(args)
	case "IF":
		return choose(args)
	case "BOUND":
		return func(v env) (rdf.Term, error) {
			_, err := args[0](v)
			if err != nil && !errors.Is(err, errValue) {
				return rdf.Term{}, err
			}
			return boolean(err == nil), nil
		}
	case "NOW":
		return func(v env) (rdf.Term, error) {
			return rdf.Typed(v.x.now.UTC().Format("2006-01-02T15:04:05.000Z"), rdf.DateTime), nil
		}
	case "REGEX", "REPLACE":
		c.checkPattern(e)
	}
	f := functions[e.Name]
	return func(v env) (rdf.Term, error) {
		values := make([]rdf.Term, len(args))
		work := 0
		for i, a := range args {
			var err error
			if values[i], err = a(v); err != nil {
				return rdf.Term{}, err
			}
			work += len(values[i].Value)
		}
		switch e.Name {
		case "REGEX":
			return matches(v.x, values)
		case "REPLACE":
			return replace(v.x, values)
		}
		if err := v.x.work(work); err != nil {
			return rdf.Term{}, err
		}
		return f(values)
	}
}

// either is || where one is true, and && where one is false: the other needs
// no value then.
func either(a, b expression, decides bool) expression {
	judge := func(e expression, v env) (bool, error) {
		t, err := e(v)
		if err != nil {
			return false, err
		}
		return truth(t)
	}
	return func(v env) (rdf.Term, error) {
		x, first := judge(a, v)
		if first != nil && !errors.Is(first, errValue) {
			return rdf.Term{}, first
		}
		if first == nil && x == decides {
			return boolean(decides), nil
		}
		y, second := judge(b, v)
		if second != nil {
			return rdf.Term{}, second
		}
		if y == decides {
			return boolean(decides), nil
		}
		return boolean(!decides), first
	}
}

func in(e expression, all []expression) expression {
	return func(v env) (rdf.Term, error) {
		t, err := e(v)
		if err != nil {
			return t, err
		}
		var unknown error
		for _, one := range all {
			other, err := one(v)
			same := false
			if err == nil {
				same, err = equal(t, other)
			}
			switch {
			case errors.Is(err, errValue):
				unknown = err
			case err != nil:
				return rdf.Term{}, err
			case same:
				return boolean(true), nil
			}
		}
		return boolean(false), unknown
	}
}

func coalesce(all []expression) expression {
	return func(v env) (rdf.Term, error) {
		for _, e := range all {
			if t, err := e(v); !errors.Is(err, errValue) {
				return t, err
			}
		}
		return rdf.Term{}, errValue
	}
}

func choose(args []expression) expression {
	return func(v env) (rdf.Term, error) {
		t, err := args[0](v)
		if err != nil {
			return t, err
		}
		ok, err := truth(t)
		if err != nil {
			return t, err
		}
		if ok {
			return args[1](v)
		}
		return args[2](v)
	}
}

// checkPattern sees that a regular expression that stands in the query is one.
func (c *compiler) checkPattern(e sparql.Call) {
	pattern, constant := e.Args[1].(sparql.Constant)
	flags := rdf.Text("")
	if last := map[string]int{"REGEX": 2, "REPLACE": 3}[e.Name]; len(e.Args) > last {
		given, ok := e.Args[last].(sparql.Constant)
		constant = constant && ok
		flags = given.Term
	}
	if !constant {
		return
	}
	if _, err := patternOf(pattern.Term, flags); err != nil {
		c.fail("%s: %.200s: %s", e.Name, pattern.Term.Value, err)
	}
}

// fresh is a slot that no variable of the query's has.
func (c *compiler) fresh() int {
	c.names = append(c.names, "")
	c.bounded()
	return len(c.names) - 1
}

func (c *compiler) slot(name string) int {
	if i := slices.Index(c.names, name); i >= 0 {
		return i
	}
	c.names = append(c.names, name)
	c.bounded()
	return len(c.names) - 1
}

func (c *compiler) bounded() {
	if len(c.names) > sparql.MaxVariables {
		c.fail("there are more than %d variables, those of paths and aggregates counted", sparql.MaxVariables)
	}
}
