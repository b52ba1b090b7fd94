// Package browsertest is tests only: a browser that nobody here wrote opens a page of a
// device that speaks plain HTTP, through manager, outer and inner relay in this process.
// It trusts the testbed's CA as it trusts any that its user takes in.
package browsertest
