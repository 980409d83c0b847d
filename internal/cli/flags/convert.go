package flags

import (
	"math"
	"time"
)

// The functions here turn what package toml decoded into values of flags. They report whether they
// could.

func asType[T any](decoded any) (T, bool) {
	value, ok := decoded.(T)
	return value, ok
}

func asInt(decoded any) (int, bool) {
	n, ok := decoded.(int64)
	return int(n), ok && n >= math.MinInt && n <= math.MaxInt
}

func asDuration(decoded any) (time.Duration, bool) {
	text, ok := decoded.(string)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

func asStrings(decoded any) ([]string, bool) {
	switch v := decoded.(type) {
	case string:
		return []string{v}, true
	case []any:
		values := []string{}
		for _, element := range v {
			s, ok := element.(string)
			if !ok {
				return nil, false
			}
			values = append(values, s)
		}
		return values, true
	}
	return nil, false
}

// kindOf describes the type of a decoded value.
func kindOf(decoded any) string {
	switch decoded.(type) {
	case string:
		return "a string"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case time.Time:
		return "a date"
	case []any:
		return "an array"
	}
	return "something else"
}
