"""A physically based simulator of monthly Sentinel-2 series, for training data of land that no labelled series show.

Canopies by PROSAIL (``canopy``), water by a bio-optical model (``water``), everything else mixed from measured spectra
(``endmembers``), driven by the climate of the place (``climate``) and by what farmers do (``crops``), seen through
weather, terrain and sensor (``weather``). Every range stands in ``classes.yaml`` with its source.
"""

from timesenmap.model.simulation.settings import SimulationSettings, load_settings
from timesenmap.model.simulation.simulate import Inputs, read_inputs, simulate_series

__all__ = ["Inputs", "SimulationSettings", "load_settings", "read_inputs", "simulate_series"]
