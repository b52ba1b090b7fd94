// Package netnsrun is the backend that gives every node a network namespace and a
// process of our own binary, joined by bridges in a switch namespace. It needs
// root. What it makes carries the run's ID in its name; a run that crashed is
// removed by Clean, which leaves runs that are still alive alone.
package netnsrun
