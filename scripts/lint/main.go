// Command lint checks the rules of this project that no standard linter checks.
package main

func main() {}
