package faulttest_test

import _ "pgregory.net/rapid"
