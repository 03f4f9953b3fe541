"""The lab for programs: named endpoints, called over HTTP or as tools of the Model Context Protocol."""
